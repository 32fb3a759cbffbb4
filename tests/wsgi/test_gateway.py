"""What an application may do under PEP 3333, and what the client then receives."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from django_wsgiserve.events import EventBus
from django_wsgiserve.wsgi.body import EMPTY_BODY
from django_wsgiserve.wsgi.gateway import Gateway
from django_wsgiserve.wsgi.reply import Reply
from tests.wsgi.serving import DATE_LINES, App, MemorySink, factory, head, serve

PLAIN = [("Content-Type", "text/plain")]


class Result:
    """An iterable that notes how far it was read and how often it was closed."""

    def __init__(self, *blocks: bytes, endless: bool = False) -> None:
        self.read = 0
        self.closed = 0
        self._blocks = blocks
        self._endless = endless

    def __iter__(self) -> Iterator[bytes]:
        while True:
            for block in self._blocks:
                self.read += 1
                assert self.read < 1000, "read on although nobody needed it"
                yield block
            if not self._endless:
                return

    def close(self) -> None:
        """Note it."""
        self.closed += 1


class SizedResult(Result):
    """One that also says how many blocks it has."""

    def __len__(self) -> int:
        return len(self._blocks)


class DjangoLike(Result):
    """What Django's `HttpResponse` looks like from here."""

    streaming = False

    @property
    def content(self) -> bytes:
        """The body, without iteration."""
        return b"".join(self._blocks)


def answering(result: Any, *headers: tuple[str, str], status: str = "200 OK") -> App:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, [*PLAIN, *headers])
        return result

    return app


def test_list_of_one_block_is_one_send_with_its_length() -> None:
    served = serve(answering([b"hello"]))
    assert len(served.sink.parts) == 1
    assert served.body == b"hello"
    assert served.response().getheader("Content-Length") == "5"
    assert served.response().getheader("Content-Type") == "text/plain"
    assert served.response().getheader("Date") == "Thu, 01 Jan 2026 00:00:00 GMT"
    outcome = served.outcome
    assert (outcome.status, outcome.body_bytes, outcome.headers) == (200, 5, PLAIN)
    assert outcome.keep_alive
    assert not outcome.aborted
    assert served.failures == []


@pytest.mark.parametrize("result", [(b"hello",), [b"he", b"", b"llo"], (b"hel", b"lo")])
def test_lists_and_tuples_are_one_send_with_their_length(result: Any) -> None:
    served = serve(answering(result))
    assert len(served.sink.parts) == 1
    assert served.body == b"hello"
    assert served.response().getheader("Content-Length") == "5"


@pytest.mark.parametrize("result", [[], (), [b""], Result(), Result(b"")])
def test_empty_body_has_a_length_of_zero(result: Any) -> None:
    served = serve(answering(result))
    assert len(served.sink.parts) == 1
    assert served.response().getheader("Content-Length") == "0"
    assert served.outcome.keep_alive
    assert served.failures == []


def test_subclass_of_bytes_is_bytes() -> None:
    class Safe(bytes):
        pass

    served = serve(answering([Safe(b"hello")]))
    assert served.body == b"hello"
    assert served.response().getheader("Content-Length") == "5"


def test_large_whole_body_is_not_copied_behind_its_head() -> None:
    body = b"x" * 1_000_000
    served = serve(answering([body]))
    assert served.sink.parts[1] is body
    assert served.body == body
    assert served.outcome.body_bytes == len(body)


@pytest.mark.parametrize("leaves_after", [0, 1])
def test_client_leaves_during_a_large_whole_body(leaves_after: int) -> None:
    sink = MemorySink(leaves_after=leaves_after)
    served = serve(answering([b"x" * 1_000_000]), sink=sink)
    assert served.outcome.aborted
    assert served.outcome.body_bytes == 0
    assert sink.refused == 1


def test_large_body_of_a_head_request_is_one_send() -> None:
    served = serve(answering([b"x" * 1_000_000]), head("HEAD"))
    assert len(served.sink.parts) == 1
    assert served.response().getheader("Content-Length") == "1000000"


def test_response_that_says_it_does_not_stream_is_one_send() -> None:
    result = DjangoLike(b"hel", b"lo")
    served = serve(answering(result))
    assert len(served.sink.parts) == 1
    assert served.body == b"hello"
    assert result.read == 0
    assert result.closed == 1


def test_response_that_streams_is_iterated() -> None:
    result = DjangoLike(b"hel", b"lo")
    result.streaming = True
    served = serve(answering(result))
    assert served.body == b"hello"
    assert result.read == 2
    assert result.closed == 1


def test_stream_sends_each_block_as_it_comes_and_the_head_with_the_first() -> None:
    sink = MemorySink()
    sent_before: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        for block in (b"", b"one", b"", b"two"):
            sent_before.append(len(sink.parts))
            yield block

    served = serve(app, sink=sink)
    assert sent_before == [0, 0, 1, 1]
    assert sink.parts[0].endswith(b"one\r\n")
    assert served.body == b"onetwo"
    assert served.response().getheader("Transfer-Encoding") == "chunked"
    assert served.outcome.body_bytes == 6
    assert served.outcome.keep_alive


def test_stream_of_known_length_is_not_chunked() -> None:
    served = serve(answering(Result(b"one", b"two"), ("Content-Length", "6")))
    assert served.response().getheader("Transfer-Encoding") is None
    assert served.wire.endswith(b"\r\n\r\nonetwo")
    assert served.outcome.keep_alive


def test_stream_to_an_old_client_ends_with_the_connection() -> None:
    request = head("GET", "/", "Connection: keep-alive", version="1.0")
    served = serve(answering(Result(b"one", b"two")), request)
    assert served.wire.endswith(b"\r\n\r\nonetwo")
    assert not served.outcome.keep_alive
    assert not served.outcome.aborted


def test_length_of_one_block_is_the_length_of_the_body() -> None:
    served = serve(answering(SizedResult(b"hello")))
    assert served.response().getheader("Content-Length") == "5"
    assert served.body == b"hello"
    served = serve(answering(SizedResult(b"hel", b"lo")))
    assert served.response().getheader("Content-Length") is None
    assert served.body == b"hello"


def test_old_sequence_protocol_is_iterable() -> None:
    class Old:
        def __getitem__(self, index: int) -> bytes:
            return [b"he", b"llo"][index]

    assert serve(answering(Old())).body == b"hello"


def test_connection_closes_when_the_worker_or_the_client_wants_it() -> None:
    assert not serve(answering([b"x"]), keep_alive=False).outcome.keep_alive
    closing = head("GET", "/", "Connection: close")
    assert not serve(answering([b"x"]), closing).outcome.keep_alive


def test_write_sends_at_once_and_before_what_is_returned() -> None:
    sink = MemorySink()
    sent: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", PLAIN)
        for block in (b"", b"one ", b"two "):
            write(block)
            sent.append(len(sink.parts))
        return [b"three"]

    served = serve(app, sink=sink)
    assert sent == [0, 1, 2]
    assert served.body == b"one two three"
    assert served.outcome.body_bytes == 13
    assert served.outcome.keep_alive


def test_write_alone_makes_a_response() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*PLAIN, ("Content-Length", "4")])(b"done")
        return []

    served = serve(app)
    assert served.wire.endswith(b"\r\n\r\ndone")
    assert served.failures == []


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


def test_keyword_exc_info_and_names_are_understood() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status="200 OK", response_headers=PLAIN, exc_info=None)
        return [b"x"]

    assert serve(app).body == b"x"


def test_second_head_with_exc_info_replaces_the_first() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("X-First", "1")])
        try:
            environ["no such key"]
        except KeyError:
            start_response("503 Service Unavailable", [("X-Second", "1")], sys.exc_info())
        return [b"sorry"]

    served = serve(app)
    assert served.outcome.status == 503
    assert served.response().getheader("X-First") is None
    assert served.response().getheader("X-Second") == "1"
    assert served.body == b"sorry"
    assert served.failures == []


def test_empty_exc_info_replaces_an_unsent_head() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", PLAIN)
        write(b"one")
        start_response("200 OK", PLAIN, sys.exc_info())  # (None, None, None)
        return [b"two"]

    assert serve(app).body == b"onetwo"


def test_head_may_come_with_the_first_block() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("201 Created", PLAIN)
        yield b"made"

    served = serve(app)
    assert served.outcome.status == 201
    assert served.body == b"made"


def test_body_is_what_the_application_reads() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return [environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))]

    body = b"0123456789" * 1000
    served = serve(app, head("POST", "/", "Transfer-Encoding: chunked"), body=body)
    assert served.body == body


@pytest.mark.parametrize(("result", "limit"), [([b"hello"], 9), (DjangoLike(b"hello"), 15)])
def test_few_calls_are_made_around_the_application(result: Any, limit: int) -> None:
    """Counted as at the top of `gateway`, with the application and its result on top."""
    request = head()
    headers = [("Content-Type", "text/plain")]

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", headers)
        return result

    calls: list[str] = []
    gateway = Gateway(app, EventBus())
    for _ in range(2):
        environ = factory().build(request, ("", ""), EMPTY_BODY, 0)
        reply = Reply(request, MemorySink(), keep_alive=True, date=DATE_LINES)
        calls.clear()
        outer = sys.getprofile()
        sys.setprofile(
            lambda frame, event, argument: (
                calls.append(frame.f_code.co_qualname if event == "call" else repr(argument))
                if event in {"call", "c_call"} and "serving" not in frame.f_code.co_filename
                else None
            )
        )
        try:
            gateway.run(environ, reply)
        finally:
            sys.setprofile(outer)
    assert len(calls) <= limit, calls


@pytest.mark.parametrize("result", [[b"hello"], iter([b"hel", b"lo"])])
def test_close_that_is_wanted_while_the_application_runs_is_announced(result: Any) -> None:
    request, sink = head(), MemorySink()
    reply = Reply(request, sink, keep_alive=True, date=DATE_LINES)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        reply.close_wanted = True
        return result

    Gateway(app, EventBus()).run(factory().build(request, ("", ""), EMPTY_BODY, 0), reply)
    assert b"\r\nConnection: close\r\n" in sink.received()
    assert not reply.keep_alive
    assert not reply.aborted
