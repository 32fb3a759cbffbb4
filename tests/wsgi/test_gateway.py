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
from tests.wsgi.results import PLAIN, DjangoLike, Result, SizedResult, answering
from tests.wsgi.serving import DATE_LINES, MemorySink, factory, head, serve


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
