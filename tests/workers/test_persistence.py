"""How long a connection goes on, and who ends it: the client's wish, ends of file, idle ones."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from django_wsgiserve.events import RequestFinished
from tests.workers.http_client import AnswerReader, ask, get
from tests.workers.served import Served, hello

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Serve = Callable[..., Served]


def test_pipelined_requests_and_an_end_of_file_at_once_are_all_answered(serve: Serve) -> None:
    served = serve()
    client, server = socket.socketpair()
    client.settimeout(20)
    with client:
        client.sendall(b"".join(get(f"/{number}") for number in range(10)))
        client.shutdown(socket.SHUT_WR)
        served.adopt(server)
        reader = AnswerReader(client)
        assert [reader.read().body for _ in range(10)] == [b"/%d" % n for n in range(10)]
        assert reader.read_to_end() == b""
    assert not any(event.aborted for event in served.finished(10))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_half_closed_client_still_gets_its_answer(serve: Serve, when: str) -> None:
    served = serve()
    with served.connect() as client:
        if when == "after":
            ask(client, get("/first"))
        client.sendall(get("/last"))
        client.shutdown(socket.SHUT_WR)
        reader = AnswerReader(client)
        assert reader.read().body == b"/last"
        assert reader.read_to_end() == b""


def test_an_end_of_file_between_requests_ends_the_connection_without_a_log_line(
    serve: Serve,
) -> None:
    served = serve()
    with served.connect() as client:
        ask(client, get("/"))
        client.shutdown(socket.SHUT_WR)
        assert client.recv(10) == b""
    assert len(served.finished()) == 1
    assert served.connections() == []


def test_a_connection_without_a_request_leaves_no_log_line(serve: Serve) -> None:
    served = serve()
    for sent in (b"", b"\r\n"):
        with served.connect() as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            client.recv(1000)
    with served.connect() as client:
        ask(client, get("/"))
    assert [event.request_line for event in served.finished()][-1] == "GET / HTTP/1.1"
    assert len(served.of(RequestFinished)) == 1


def test_an_end_of_file_that_comes_while_the_application_runs_is_not_forgotten(
    serve: Serve,
) -> None:
    clients: list[socket.socket] = []

    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        clients[0].shutdown(socket.SHUT_WR)
        return hello(environ, start_response)

    served = serve(application)
    with served.connect() as client:
        clients.append(client)
        client.sendall(get("/only"))
        reader = AnswerReader(client)
        assert reader.read().body == b"/only"
        assert reader.read_to_end() == b""


@pytest.mark.parametrize(
    ("request_bytes", "keeps"),
    [
        (get("/"), True),
        (get("/", "Connection: close"), False),
        (get("/", version="HTTP/1.0"), False),
        (get("/", "Connection: keep-alive", version="HTTP/1.0"), True),
    ],
)
def test_the_connection_persists_as_the_client_wants_it(
    serve: Serve, request_bytes: bytes, keeps: bool
) -> None:
    served = serve()
    with served.connect() as client:
        client.sendall(request_bytes)
        reader = AnswerReader(client)
        assert reader.read().body == b"/"
        if keeps:
            assert ask(client, get("/again")).body == b"/again"
        else:
            assert reader.read_to_end() == b""


def test_no_connection_persists_without_a_keepalive_time(serve: Serve) -> None:
    served = serve(keepalive_s=0.0)
    with served.connect() as client:
        client.sendall(get("/"))
        reader = AnswerReader(client)
        assert reader.read().closes
        assert reader.read_to_end() == b""


def test_what_follows_a_last_request_does_not_destroy_its_answer(serve: Serve) -> None:
    body = b"x" * 60_000  # more than the client's buffer takes, less than ours does

    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        clients[0].sendall(b"late" * 1000)
        start_response("200 OK", [])
        return [body]

    clients: list[socket.socket] = []
    served = serve(application)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(("127.0.0.1", served.port))
        clients.append(client)
        client.sendall(get("/", "Connection: close"))
        served.finished()
        assert AnswerReader(client).read().body == body


def test_idle_connections_do_not_keep_the_loop_busy(serve: Serve) -> None:
    served = serve()
    clients = [served.pair() for _ in range(3)]
    for client in clients:
        ask(client, get("/"))
    first = served.call(lambda: served.turns)
    # Two ticks of a second: a loop that spins makes thousands of turns in them.
    beats = {served.call(lambda: served.row.status().heartbeat_s)}
    served.wait_until(
        lambda: beats.add(served.row.status().heartbeat_s) or len(beats) > 2  # type: ignore[func-returns-value]
    )
    calls_made = 3 * 60
    assert served.call(lambda: served.turns) - first < calls_made
    for client in clients:
        client.close()
