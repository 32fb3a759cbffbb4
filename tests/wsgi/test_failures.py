"""Applications that raise: what the client gets and what is reported."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from django_wsgiserve.errors import RequestTimedOut
from tests.wsgi.failing import assert_500, assert_cut_short, boom
from tests.wsgi.results import PLAIN, answering
from tests.wsgi.serving import App, MemorySink, head, serve


def raising(error: BaseException) -> App:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        raise error

    return app


def test_application_that_raises_gets_a_500_page() -> None:
    served = serve(raising(ValueError("boom")))
    assert_500(served)
    assert served.failure.summary == (
        "the application raised ValueError('boom'); the client got a 500"
    )
    assert isinstance(served.failure.exception, ValueError)
    assert served.failure.request.path == "/"


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RecursionError(), MemoryError()]
)
def test_no_exception_ends_the_worker(error: BaseException) -> None:
    served = serve(raising(error))
    assert_500(served)
    assert served.failure.exception is error
    assert type(error).__name__ in served.failure.summary


def test_request_that_was_ended_from_outside_is_reported_by_who_ended_it() -> None:
    served = serve(raising(RequestTimedOut("GET /slow")))
    assert_500(served)
    assert served.failures == []


def test_reported_traceback_begins_in_the_application() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        boom()

    failure = serve(app).failure
    assert failure.exception is not None
    frames = traceback.extract_tb(failure.exception.__traceback__)
    assert [frame.name for frame in frames] == ["app", "boom"]


def test_reported_traceback_of_a_stream_begins_in_the_stream() -> None:
    def stream() -> Iterator[bytes]:
        yield b"begun"
        boom()

    failure = serve(answering(stream())).failure
    assert failure.exception is not None
    frames = traceback.extract_tb(failure.exception.__traceback__)
    assert [frame.name for frame in frames] == ["stream", "boom"]


def test_exception_that_cannot_be_shown_is_reported_all_the_same() -> None:
    class Mute(Exception):
        def __repr__(self) -> str:
            raise RuntimeError

        __str__ = __repr__

    served = serve(raising(Mute()))
    assert_500(served)
    assert "Mute" in served.failure.summary


def test_summary_is_one_bounded_line() -> None:
    summary = serve(raising(ValueError("one\ntwo" * 10_000))).failure.summary
    assert "\n" not in summary
    assert len(summary) < 500


def test_failure_after_an_unsent_head_is_a_500() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("X-Lost", "1")])
        boom()

    served = serve(app)
    assert_500(served)
    assert b"X-Lost" not in served.wire


def test_failure_before_the_first_block_is_a_500() -> None:
    def stream() -> Iterator[bytes]:
        yield b""
        boom()

    assert_500(serve(answering(stream())))


def test_failure_of_a_head_request_is_a_500_without_a_page() -> None:
    served = serve(raising(ValueError("boom")), head("HEAD"))
    assert served.response().status == 500
    assert served.wire.endswith(b"\r\n\r\n")
    assert served.outcome.body_bytes == 0
    assert not served.outcome.keep_alive


def test_failure_midway_closes_the_connection_and_the_response() -> None:
    closed: list[bool] = []

    class Stream:
        def __iter__(self) -> Iterator[bytes]:
            yield b"begun"
            boom()

        def close(self) -> None:
            closed.append(True)

    served = serve(answering(Stream()))
    assert_cut_short(served)
    assert served.outcome.status == 200
    assert served.outcome.body_bytes == 5
    assert closed == [True]
    assert served.failure.summary == (
        "the application raised ValueError('boom');"
        " the response had begun, so the connection was closed"
    )


def test_failure_after_write_closes_the_connection() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", PLAIN)(b"begun")
        sys.exit("done")

    served = serve(app)
    assert_cut_short(served)
    assert "SystemExit('done')" in served.failure.summary


def test_failure_for_a_client_that_left_is_reported() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        try:
            start_response("200 OK", PLAIN)(b"begun")
        except OSError:
            boom()

    served = serve(app, sink=MemorySink(leaves_after=0))
    assert served.outcome.aborted
    assert served.failure.summary.endswith("; the client had already left")


def test_client_that_leaves_before_the_500_is_not_called_answered() -> None:
    served = serve(raising(ValueError("boom")), sink=MemorySink(leaves_after=0))
    assert served.outcome.aborted
    assert served.outcome.status == 500
    assert served.outcome.body_bytes == 0
    assert served.failure.summary.endswith("; the client had already left")


def test_own_error_of_the_application_is_no_lost_client() -> None:
    served = serve(raising(ConnectionAbortedError("a database")))
    assert_500(served)
    assert "a database" in served.failure.summary


class FailingClose:
    """A result that cannot be closed."""

    def __init__(self, error: BaseException) -> None:
        self.closed = 0
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield b"hello"

    def close(self) -> None:
        """Fail, having counted."""
        self.closed += 1
        raise self._error


@pytest.mark.parametrize("error", [ValueError("late"), SystemExit("late")])
def test_failing_close_is_reported_and_disturbs_nothing(error: BaseException) -> None:
    result = FailingClose(error)
    served = serve(answering(result))
    assert served.body == b"hello"
    assert served.outcome.keep_alive
    assert not served.outcome.aborted
    assert result.closed == 1
    assert served.failure.exception is error
    assert served.failure.summary == f"close() of the response raised {error!r}"


def test_failing_stream_and_failing_close_are_both_reported() -> None:
    class Worst(FailingClose):
        def __iter__(self) -> Iterator[bytes]:
            boom()
            yield b""

    served = serve(answering(Worst(ValueError("late"))))
    assert_500(served)
    assert [failure.summary.split(";")[0] for failure in served.failures] == [
        "the application raised ValueError('boom')",
        "close() of the response raised ValueError('late')",
    ]


def test_response_is_closed_after_it_was_sent() -> None:
    sink = MemorySink()
    sent: list[int] = []

    class Stream:
        streaming = False
        content = b"hello"

        def close(self) -> None:
            sent.append(len(sink.parts))

    serve(answering(Stream()), sink=sink)
    assert sent == [1]


def test_failing_read_of_a_file_is_reported_as_it_is() -> None:
    class Broken:
        def read(self, size: int) -> bytes:
            raise OSError("the disk is on fire")

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return environ["wsgi.file_wrapper"](Broken())

    served = serve(app)
    assert_500(served)
    assert "the disk is on fire" in served.failure.summary


def test_error_without_a_frame_of_the_application_keeps_its_traceback() -> None:
    strange = type("Strange", (), {"__iter__": lambda self: 5})()
    served = serve(answering(strange))
    assert_500(served)
    assert isinstance(served.failure.exception, TypeError)
    assert served.failure.exception.__traceback__ is not None
