"""What the RFCs say about single requests, one file each. See `vector_files`."""

from __future__ import annotations

import pytest

from django_wsgiserve.protocol.messages import Limits
from tests.protocol.reading import chunk, read
from tests.protocol.vector_files import Vector, load_vectors

VECTORS = load_vectors()


@pytest.mark.parametrize("size", [1 << 20, 1, 7], ids=["whole", "bytewise", "by-sevens"])
@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_vector_reads_as_the_rfc_says(vector: Vector, size: int) -> None:
    reading = read(chunk(vector.data, size), Limits(**vector.limits), eof=vector.eof)
    assert len(reading.messages) == len(vector.request)
    for message, expected in zip(reading.messages, vector.request, strict=True):
        values = {"body": message.body.decode("latin-1"), "whole": message.whole, **message.head}
        expected = {"whole": True, **expected}
        assert {name: values[name] for name in expected} == expected
    if vector.error is None:
        assert reading.error is None
    else:
        assert reading.error is not None, "the reader waits for more"
        assert type(reading.error).__name__ == vector.error
        assert reading.error.status == vector.status


@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_vector_names_its_rule(vector: Vector) -> None:
    assert vector.rfc.startswith(("RFC 3986 ", "RFC 6265 ", "RFC 6585 ", "RFC 911"))
    assert vector.why
