"""Applications that break PEP 3333: a 500 with nothing of it, or a visible end; always a reason."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from tests.wsgi.failing import assert_500, assert_cut_short, boom
from tests.wsgi.results import PLAIN, answering
from tests.wsgi.serving import App, serve


def start_twice(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", PLAIN)
    start_response("200 OK", PLAIN)
    return [b""]


def start_never(environ: dict[str, Any], start_response: Any) -> Any:
    return [b"hello"]


def start_never_and_end(environ: dict[str, Any], start_response: Any) -> Any:
    return iter(())


def start_never_and_hesitate(environ: dict[str, Any], start_response: Any) -> Any:
    return iter([b""])


def start_with_a_tuple(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", tuple(PLAIN))
    return [b""]


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        (start_twice, "start_response() was called again without exc_info"),
        (start_never, "did not call start_response()"),
        (start_never_and_end, "did not call start_response()"),
        (start_never_and_hesitate, "did not call start_response()"),
        (start_with_a_tuple, "the headers are tuple"),
        (answering([b""], status=200), "the status is int 200, not a str like '200 OK'"),
        (answering([b""], status=""), "the status is str '', not a str like '200 OK'"),
        (answering([b""], status="OK"), "'OK'"),
        (answering([b""], status="200 OK\r\nX-Injected: 1"), "Injected"),
        (answering([b""], ("X-Line", "a\r\nX-Injected: 1")), "Injected"),
        (answering([b""], ("X Line", "a")), "X Line"),
        (answering([b""], ("X-Line", 1)), "X-Line"),  # type: ignore[arg-type]
        (answering(None), "returned NoneType None, not an iterable"),
        (answering(["text"]), "a part that is str 'text', not bytes"),
        (answering([b"a", "text"]), "a part that is str 'text', not bytes"),
        (answering(("text",)), "a part that is str 'text', not bytes"),
        (answering("text"), "a part that is str 't', not bytes"),
        (answering(b"bytes"), "a part that is int 98, not bytes"),
        (answering(iter([bytearray(b"x")])), "a part that is bytearray"),
        (answering([b"hello"], ("Content-Length", "4")), ""),
        (answering([b"hello"], ("Content-Length", "6")), ""),
        (answering(iter([b"hello"]), ("Content-Length", "4")), ""),
        (answering([], ("Content-Length", "4")), ""),
        (answering(iter(()), ("Content-Length", "4")), ""),
        (answering([b"hello"], ("Content-Length", "five")), ""),
    ],
)
def test_broken_rule_is_a_500_and_its_reason_is_reported(app: App, reason: str) -> None:
    served = serve(app)
    assert_500(served)
    assert b"Injected" not in served.wire
    assert served.failure.summary.startswith("the application's response is not valid: ")
    assert reason in served.failure.summary


def test_rule_broken_in_the_application_shows_where() -> None:
    exception = serve(start_twice).failure.exception
    assert exception is not None
    frames = traceback.extract_tb(exception.__traceback__)
    assert [frame.name for frame in frames] == ["start_twice", "start_response"]


def test_rule_found_broken_afterwards_shows_no_frames_of_the_server() -> None:
    assert serve(start_never).failure.exception is None


@pytest.mark.parametrize(
    ("blocks", "length"), [([b"one", b"two"], "5"), ([b"one", b"two"], "7"), ([b"one", "two"], "6")]
)
def test_rule_broken_midway_closes_the_connection(blocks: list[Any], length: str) -> None:
    served = serve(answering(iter(blocks), ("Content-Length", length)))
    assert_cut_short(served)
    assert served.failure.summary.endswith("the response had begun, so the connection was closed")


def test_longer_body_than_announced_by_one_block_is_not_sent() -> None:
    class One:
        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Iterator[bytes]:
            yield b"one"
            yield b"two"

    served = serve(answering(One()))
    assert served.outcome.aborted
    assert served.wire.endswith(b"\r\n\r\none")


def test_invalid_head_can_be_replaced_by_the_application() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", [("X Bad", "1")])
        try:
            write(b"x")
        except Exception:
            start_response("503 Service Unavailable", PLAIN, sys.exc_info())
        return [b"sorry"]

    served = serve(app)
    assert served.outcome.status == 503
    assert served.body == b"sorry"
    assert served.failures == []


def test_exc_info_after_the_head_was_sent_is_raised_in_the_application() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"begun"
        try:
            boom()
        except ValueError:
            start_response("500 Internal Server Error", PLAIN, sys.exc_info())
        yield b"never"

    served = serve(app)
    assert_cut_short(served)
    assert b"never" not in served.wire
    exception = served.failure.exception
    assert isinstance(exception, ValueError)
    assert traceback.extract_tb(exception.__traceback__)[-1].name == "boom"


def test_write_after_the_end_cannot_reach_the_next_response() -> None:
    class Late:
        write: Any

        def __iter__(self) -> Iterator[bytes]:
            yield b"hello"

        def close(self) -> None:
            self.write(b"HTTP/1.1 200 OK")

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        late = Late()
        late.write = start_response("200 OK", PLAIN)
        return late

    served = serve(app)
    assert served.body == b"hello"
    assert served.wire.endswith(b"0\r\n\r\n")
    assert "after the end" in served.failure.summary


def test_response_is_closed_when_start_response_was_forgotten() -> None:
    closed: list[bool] = []

    class Stream:
        def __iter__(self) -> Iterator[bytes]:
            yield b"hello"

        def close(self) -> None:
            closed.append(True)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        return Stream()

    assert_500(serve(app))
    assert closed == [True]
