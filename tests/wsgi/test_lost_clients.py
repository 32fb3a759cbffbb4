"""Clients that leave in the middle: nothing more is sent, read or reported as a failure."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wsgi.results import PLAIN, DjangoLike, Result, answering
from tests.wsgi.serving import MemorySink, serve


@pytest.mark.parametrize("leaves_after", [0, 1])
def test_client_leaves_during_a_large_whole_body(leaves_after: int) -> None:
    sink = MemorySink(leaves_after=leaves_after)
    served = serve(answering([b"x" * 1_000_000]), sink=sink)
    assert served.outcome.aborted
    assert served.outcome.body_bytes == 0
    assert sink.refused == 1


def test_write_to_a_client_that_left_stops_the_application() -> None:
    written = 0

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        nonlocal written
        write = start_response("200 OK", PLAIN)
        while True:
            written += 1
            assert written < 100
            write(b"and on")

    sink = MemorySink(leaves_after=2)
    served = serve(app, sink=sink)
    assert written == 3
    assert sink.refused == 1
    assert served.outcome.aborted
    assert not served.outcome.keep_alive
    assert served.outcome.body_bytes == 12
    assert served.failures == []


def test_application_that_ignores_the_lost_client_reaches_nobody() -> None:
    result = Result(b"and on", endless=True)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", PLAIN)
        for _ in range(3):
            with pytest.raises(OSError, match="closed the connection"):
                write(b"x")
        return result

    sink = MemorySink(leaves_after=0)
    served = serve(app, sink=sink)
    assert sink.refused == 1
    assert result.read == 0
    assert result.closed == 1
    assert served.outcome.aborted
    assert served.failures == []


@pytest.mark.parametrize("whole", [[b"x"], DjangoLike(b"x"), Result(b"x", endless=True)])
def test_client_that_left_ends_the_response_and_closes_it(whole: Any) -> None:
    sink = MemorySink(leaves_after=0)
    served = serve(answering(whole), sink=sink)
    assert served.outcome.aborted
    assert not served.outcome.keep_alive
    assert served.outcome.body_bytes == 0
    assert sink.refused == 1
    assert getattr(whole, "closed", 1) == 1
    assert getattr(whole, "read", 0) <= 1


def test_client_that_leaves_midway_stops_the_stream() -> None:
    result = Result(b"block", endless=True)
    served = serve(answering(result), sink=MemorySink(leaves_after=3))
    assert result.read == 4
    assert result.closed == 1
    assert served.outcome.body_bytes == 15
    assert served.outcome.aborted


def test_client_that_leaves_before_the_last_chunk_is_noticed() -> None:
    served = serve(answering(Result(b"one")), sink=MemorySink(leaves_after=1))
    assert served.outcome.aborted
    assert not served.outcome.keep_alive
