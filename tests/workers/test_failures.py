"""Requests that are refused, broken off by their client, or fail in the application."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from django_wsgiserve.events import AppFailed, RequestFinished, RequestRejected
from django_wsgiserve.workers.connection import State
from tests.workers.applications import digest, digest_of
from tests.workers.http_client import AnswerReader, ask, get, post, reset
from tests.workers.served import Served

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Serve = Callable[..., Served]


def test_a_malformed_request_gets_a_400_and_one_log_line(serve: Serve) -> None:
    served = serve()
    with served.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n")
        reader = AnswerReader(client)
        answer = reader.read()
        assert (answer.status, answer.closes) == (400, True)
        assert reader.read_to_end() == b""
    (finished,) = served.finished()
    assert finished.request is None
    assert finished.request_line == "GET / HTTP/1.1"
    assert (finished.status, finished.aborted) == (400, False)
    assert finished.sent_bytes == len(answer.body)
    (rejected,) = served.of(RequestRejected)
    assert (rejected.status, rejected.peer) == (400, "127.0.0.1")


def test_a_malformed_request_behind_good_ones_is_refused_in_its_place(serve: Serve) -> None:
    served = serve()
    with served.pair() as client:
        client.sendall(get("/1") + get("/2") + b"NOT HTTP\r\n\r\n" + get("/3"))
        reader = AnswerReader(client)
        assert [reader.read().status for _ in range(3)] == [200, 200, 400]
        assert reader.read_to_end() == b""
    assert [event.status for event in served.finished(3)] == [200, 200, 400]


def test_a_client_that_leaves_within_a_head_is_logged(serve: Serve) -> None:
    served = serve()
    with served.connect() as client:
        client.sendall(b"GET /part HTTP/1.1\r\nHo")
        client.shutdown(socket.SHUT_WR)
        assert AnswerReader(client).read().status == 400
    (finished,) = served.finished()
    assert finished.request_line.startswith("GET /part HTTP/1.1")


def test_a_client_that_resets_within_a_body_is_logged_as_gone(serve: Serve) -> None:
    served = serve(digest)
    client = served.connect()
    client.sendall(post("/up", b"x" * 1000)[:-1])
    served.wait_until(
        lambda: any(c.state is State.BODY for c in served.reactor._traffic.connections.values())
    )
    reset(client)
    (finished,) = served.finished()
    assert (finished.status, finished.aborted, finished.sent_bytes) == (499, True, 0)
    assert finished.request_line == "POST /up HTTP/1.1"
    assert served.connections() == []


def test_a_refused_client_that_has_reset_is_logged_too(serve: Serve) -> None:
    served = serve()
    client, server = socket.socketpair()
    client.sendall(b"NOT HTTP\r\n\r\n")
    client.close()
    served.adopt(server)
    (finished,) = served.finished()
    assert (finished.status, finished.aborted) == (400, True)
    assert len(served.of(RequestRejected)) == 1


def test_an_application_that_raises_is_answered_for(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        raise RuntimeError("broken")

    served = serve(application)
    for _ in range(2):
        with served.pair() as client:
            answer = ask(client, get("/"))
            assert (answer.status, answer.closes) == (500, True)
    assert [event.status for event in served.finished(2)] == [500, 500]
    assert len(served.of(AppFailed)) == 2
    assert served.call(served.row.status).errors == 2


def test_an_application_that_breaks_off_ends_the_connection_and_the_log_says_so(
    serve: Serve,
) -> None:
    def application(environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("200 OK", [("Content-Length", "100")])
        return [b"only this"]

    served = serve(lambda environ, start_response: iter(application(environ, start_response)))
    with served.pair() as client:
        client.sendall(get("/"))
        with pytest.raises(EOFError):
            AnswerReader(client).read()
    (finished,) = served.finished()
    assert finished.aborted


def test_a_broken_observer_costs_no_request(serve: Serve) -> None:
    def broken(event: RequestFinished) -> None:
        raise ValueError("observer")

    served = serve()
    served.events.subscribe(RequestFinished, broken)
    with served.pair() as client:
        assert ask(client, get("/")).status == 200
        assert ask(client, get("/")).status == 200


def test_a_body_for_which_there_is_no_directory_gets_a_503(serve: Serve, tmp_path: Any) -> None:
    served = serve(digest, spool_memory=10, spool_dir=str(tmp_path / "absent"))
    with served.connect() as client:
        client.sendall(post("/", b"x" * 100_000))
        assert AnswerReader(client).read().status == 503
    with served.connect() as client:
        assert ask(client, post("/", b"x" * 10)).body == digest_of(b"x" * 10)
    assert [event.status for event in served.finished(2)] == [503, 200]


def test_a_large_body_that_finds_no_room_half_way_gets_a_503(serve: Serve, tmp_path: Any) -> None:
    served = serve(digest, spool_memory=150_000, spool_dir=str(tmp_path / "absent"))
    with served.connect() as client:
        client.sendall(post("/", b"x" * 400_000))
        assert AnswerReader(client).read().status == 503
    assert [event.status for event in served.finished()] == [503]
