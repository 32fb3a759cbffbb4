"""Applications that fail or break PEP 3333: what the client gets and what is reported."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from tests.wsgi.serving import App, MemorySink, Served, head, serve

PLAIN = [("Content-Type", "text/plain")]


def boom() -> None:
    raise ValueError("boom")


def raising(error: BaseException) -> App:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        raise error

    return app


def returning(result: Any, *headers: tuple[str, str], status: Any = "200 OK") -> App:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, [*PLAIN, *headers])
        return result

    return app


def assert_500(served: Served) -> None:
    """Check that the client got a whole error page that tells nothing."""
    response = served.response()
    body = response.read()
    assert response.status == served.outcome.status == 500
    assert response.getheader("Content-Type", "").startswith("text/html")
    assert response.getheader("Connection") == "close"
    assert response.getheader("Date")
    assert dict(served.outcome.headers)["Content-Length"] == str(len(body))
    assert served.outcome.body_bytes == len(body) > 0
    assert b"boom" not in served.wire
    assert not served.outcome.keep_alive
    assert not served.outcome.aborted
    assert len(served.sink.parts) == 1


def assert_cut_short(served: Served) -> None:
    """Check that the connection closes with the response visibly not whole."""
    assert served.outcome.aborted
    assert not served.outcome.keep_alive
    assert b"500" not in served.wire
    assert not served.wire.endswith(b"0\r\n\r\n")


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

    failure = serve(returning(stream())).failure
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

    assert_500(serve(returning(stream())))


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

    served = serve(returning(Stream()))
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
        (returning([b""], status=200), "the status is int 200, not a str like '200 OK'"),
        (returning([b""], status=""), "the status is str '', not a str like '200 OK'"),
        (returning([b""], status="OK"), "'OK'"),
        (returning([b""], status="200 OK\r\nX-Injected: 1"), "Injected"),
        (returning([b""], ("X-Line", "a\r\nX-Injected: 1")), "Injected"),
        (returning([b""], ("X Line", "a")), "X Line"),
        (returning([b""], ("X-Line", 1)), "X-Line"),  # type: ignore[arg-type]
        (returning(None), "returned NoneType None, not an iterable"),
        (returning(["text"]), "a part that is str 'text', not bytes"),
        (returning([b"a", "text"]), "a part that is str 'text', not bytes"),
        (returning(("text",)), "a part that is str 'text', not bytes"),
        (returning("text"), "a part that is str 't', not bytes"),
        (returning(b"bytes"), "a part that is int 98, not bytes"),
        (returning(iter([bytearray(b"x")])), "a part that is bytearray"),
        (returning([b"hello"], ("Content-Length", "4")), ""),
        (returning([b"hello"], ("Content-Length", "6")), ""),
        (returning(iter([b"hello"]), ("Content-Length", "4")), ""),
        (returning([], ("Content-Length", "4")), ""),
        (returning(iter(()), ("Content-Length", "4")), ""),
        (returning([b"hello"], ("Content-Length", "five")), ""),
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
    served = serve(returning(iter(blocks), ("Content-Length", length)))
    assert_cut_short(served)
    assert served.failure.summary.endswith("the response had begun, so the connection was closed")


def test_longer_body_than_announced_by_one_block_is_not_sent() -> None:
    class One:
        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Iterator[bytes]:
            yield b"one"
            yield b"two"

    served = serve(returning(One()))
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
    served = serve(returning(result))
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

    served = serve(returning(Worst(ValueError("late"))))
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

    serve(returning(Stream()), sink=sink)
    assert sent == [1]


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
    served = serve(returning(strange))
    assert_500(served)
    assert isinstance(served.failure.exception, TypeError)
    assert served.failure.exception.__traceback__ is not None
