"""Responses without a body: to HEAD, and with the statuses that have none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.wsgi.results import PLAIN, DjangoLike, Result, answering
from tests.wsgi.serving import head, serve


def test_large_body_of_a_head_request_is_one_send() -> None:
    served = serve(answering([b"x" * 1_000_000]), head("HEAD"))
    assert len(served.sink.parts) == 1
    assert served.response().getheader("Content-Length") == "1000000"


def test_head_request_gets_the_length_and_no_body() -> None:
    for result in ([b"hello"], DjangoLike(b"hello"), (b"he", b"llo")):
        served = serve(answering(result), head("HEAD"))
        assert served.wire.endswith(b"\r\n\r\n")
        assert served.response().getheader("Content-Length") == "5"
        assert served.outcome.body_bytes == 0
        assert served.outcome.keep_alive
        assert served.failures == []


def test_head_request_without_a_body_claims_no_length() -> None:
    for result in ([], [b""], DjangoLike(), Result()):
        served = serve(answering(result), head("HEAD"))
        assert served.response().getheader("Content-Length") is None
        assert served.outcome.keep_alive


def test_head_request_does_not_read_an_endless_stream() -> None:
    result = Result(b"and on", endless=True)
    served = serve(answering(result), head("HEAD"))
    assert result.read == 0
    assert result.closed == 1
    assert served.outcome.status == 200
    assert served.wire.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("first", [b"", b"and on"])
def test_head_request_reads_a_late_starter_only_until_its_head(first: bytes) -> None:
    read = 0

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        nonlocal read
        start_response("200 OK", PLAIN)
        while True:
            read += 1
            assert read < 100
            yield first

    served = serve(app, head("HEAD"))
    assert read == 1
    assert served.outcome.status == 200
    assert served.wire.endswith(b"\r\n\r\n")
    assert served.failures == []


def test_head_request_ignores_what_is_written() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", [*PLAIN, ("Content-Length", "6")])
        write(b"one")
        write(b"two")
        return []

    served = serve(app, head("HEAD"))
    assert served.wire.endswith(b"\r\n\r\n")
    assert served.response().getheader("Content-Length") == "6"
    assert served.outcome.body_bytes == 0
    assert served.outcome.keep_alive
    assert served.failures == []


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("result", [[b"ignored"], [], DjangoLike(), Result(b"on", endless=True)])
def test_statuses_without_a_body_have_none(status: str, result: Any) -> None:
    served = serve(answering(result, status=status))
    assert served.wire.endswith(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in served.wire
    assert served.outcome.body_bytes == 0
    assert served.outcome.status == int(status[:3])
    assert served.outcome.keep_alive
    assert served.failures == []
    assert getattr(result, "read", 0) == 0


def test_unmodified_answer_does_not_claim_an_empty_document() -> None:
    served = serve(answering([], status="304 Not Modified"))
    assert served.response().getheader("Content-Length") is None
