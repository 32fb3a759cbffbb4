"""Requests over the reactor: every byte boundary, every order of data."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from django_wsgiserve.workers.connection import State
from tests.workers.applications import digest, digest_of
from tests.workers.http_client import AnswerReader, ask, get, post, reset
from tests.workers.served import Served, hello

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Serve = Callable[..., Served]


def test_requests_over_one_tcp_connection_are_answered_one_after_another(serve: Serve) -> None:
    served = serve()
    with served.connect() as client:
        for number in range(20):
            answer = ask(client, get(f"/{number}"))
            assert (answer.status, answer.body) == (200, f"/{number}".encode())
            assert not answer.closes
    assert [event.status for event in served.finished(20)] == [200] * 20


def test_a_connection_that_was_made_before_the_listener_was_watched_is_accepted(
    build: Serve,
) -> None:
    served = build()
    with served.connect() as client:
        client.sendall(get("/early"))
        served.start()
        assert AnswerReader(client).read().body == b"/early"


def test_every_listener_is_served(serve: Serve) -> None:
    served = serve(listeners=3)
    for listener in served.listeners:
        with socket.create_connection(("127.0.0.1", int(listener.server_port)), 20) as client:
            assert ask(client, get("/")).status == 200
    ports = {event.environ["SERVER_PORT"] for event in served.finished(3) if event.environ}
    assert ports == {listener.server_port for listener in served.listeners}


def test_small_parts_of_a_stream_do_not_wait_for_acknowledgements(serve: Serve) -> None:
    served = serve()
    with served.connect() as client:
        ask(client, get("/"))
        (connection,) = served.connections()
        assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_request_cut_at_every_byte_gets_the_same_answer(serve: Serve) -> None:
    served = serve(digest)
    chunked = (
        b"POST /c HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"4\r\nWiki\r\n5;x=1\r\npedia\r\n0\r\nT: 1\r\n\r\n"
    )
    client = served.pair()
    reader = AnswerReader(client)
    with client:
        for request, body in (
            (get("/"), b""),
            (post("/p", b"Wikipedia"), b"Wikipedia"),
            (chunked, b"Wikipedia"),
        ):
            for cut in range(1, len(request)):
                client.sendall(request[:cut])
                served.call(lambda: None)  # so that the parts are read one by one
                client.sendall(request[cut:])
                answer = reader.read()
                assert (answer.status, answer.body) == (200, digest_of(body)), cut


def test_a_request_that_comes_byte_by_byte_is_answered(serve: Serve) -> None:
    served = serve(digest)
    with served.pair() as client:
        for byte in post("/slow", b"body"):
            client.send(bytes([byte]))
            served.call(lambda: None)
        assert AnswerReader(client).read().body == digest_of(b"body")


def test_a_thousand_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    served = serve()
    with served.connect() as client:
        reader = AnswerReader(client)
        client.sendall(b"".join(get(f"/{number}") for number in range(1000)))
        for number in range(1000):
            assert reader.read().body == f"/{number}".encode()
    assert len(served.finished(1000)) == 1000


def test_pipelined_bodies_do_not_run_into_the_next_request(serve: Serve) -> None:
    served = serve(digest)
    bodies = [bytes([number]) * (number * 977) for number in range(60)]
    with served.pair() as client:
        reader = AnswerReader(client)
        client.sendall(b"".join(post("/", body) for body in bodies[:30]))
        client.sendall(b"".join(post("/", body) for body in bodies[30:]))
        for body in bodies:
            assert reader.read().body == digest_of(body)


def test_data_that_comes_while_the_application_runs_is_the_next_request(serve: Serve) -> None:
    clients: list[socket.socket] = []

    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/first":
            clients[0].sendall(get("/second"))
        return hello(environ, start_response)

    served = serve(application)
    with served.pair() as client:
        clients.append(client)
        reader = AnswerReader(client)
        client.sendall(get("/first"))
        assert reader.read().body == b"/first"
        assert reader.read().body == b"/second"


def test_a_body_larger_than_a_turn_is_whole_and_leaves_others_their_turn(serve: Serve) -> None:
    served = serve(digest)
    body = hashlib.sha256(b"seed").digest() * (5 << 15)
    with served.connect() as large, served.connect() as small:
        large.sendall(post("/", body)[:-1])
        assert ask(small, post("/", b"small")).body == digest_of(b"small")
        large.sendall(body[-1:])
        assert AnswerReader(large).read().body == digest_of(body)


def test_a_body_that_had_come_whole_before_it_was_read_is_whole(serve: Serve) -> None:
    served = serve(digest)
    body = b"0123456789abcdef" * (4 << 16)
    client, server = socket.socketpair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 20)
    client.setblocking(False)
    request = post("/", body)
    sent = client.send(request)
    served.adopt(server)
    client.settimeout(20)
    with client:
        client.sendall(request[sent:])
        assert AnswerReader(client).read().body == digest_of(body)


@pytest.mark.parametrize("spool_memory", [0, 100_000, 1 << 20])
def test_what_follows_a_body_that_comes_in_parts_is_the_next_request(
    serve: Serve, spool_memory: int
) -> None:
    served = serve(digest, spool_memory=spool_memory)
    body = hashlib.sha256(b"seed").digest() * 20_000
    request = post("/", body)
    ends_at = len(request)
    stream = request + post("/", body[:1000]) + request
    with served.pair() as client:
        reader = AnswerReader(client)
        start = 0
        for stop in (200, 90_000, 130_000, ends_at - 1, ends_at + 30, ends_at + 400, len(stream)):
            client.sendall(stream[start:stop])
            served.call(lambda: None)  # after a turn of the loop: what came may be read
            start = stop
        for sent in (body, body[:1000], body):
            assert reader.read().body == digest_of(sent)


@pytest.mark.parametrize("spool_memory", [0, 1 << 20])
def test_a_client_that_leaves_in_the_middle_of_a_large_body_is_told_of_it(
    serve: Serve, spool_memory: int
) -> None:
    served = serve(digest, spool_memory=spool_memory)
    with served.connect() as client:
        client.sendall(post("/", b"x" * 500_000)[:-1])
        client.shutdown(socket.SHUT_WR)
        assert AnswerReader(client).read().status == 400
    assert served.finished()[0].status == 400


@pytest.mark.parametrize("spool_memory", [0, 1 << 20])
def test_a_client_that_resets_in_the_middle_of_a_large_body_is_in_the_log(
    serve: Serve, spool_memory: int
) -> None:
    served = serve(digest, spool_memory=spool_memory)
    client = served.connect()
    client.sendall(post("/", b"x" * 500_000)[:-1])
    served.wait_until(
        lambda: any(
            c.state is State.BODY and c.body is not None and c.body.size == 499_999
            for c in served.reactor._traffic.connections.values()
        )
    )
    reset(client)
    assert served.finished()[0].status == 499
    served.wait_until(lambda: not served.reactor._traffic.connections)


def test_a_client_that_expects_100_continue_is_told_to_go_on(serve: Serve) -> None:
    served = serve(digest)
    with served.connect() as client:
        request = post("/", b"body", "Expect: 100-continue")
        client.sendall(request[:-4])
        reader = AnswerReader(client)
        assert reader.read().status == 100
        client.sendall(request[-4:])
        assert reader.read().body == digest_of(b"body")


def test_a_client_that_sends_the_body_at_once_is_not_told_to_go_on(serve: Serve) -> None:
    served = serve(digest)
    with served.pair() as client:
        answer = ask(client, post("/", b"body", "Expect: 100-continue"))
        assert (answer.status, answer.body) == (200, digest_of(b"body"))


def test_a_client_that_expects_100_continue_and_is_refused_is_not_told_to_go_on(
    serve: Serve,
) -> None:
    served = serve(digest, limit_request_body=3)
    with served.connect() as client:
        client.sendall(post("/", b"body", "Expect: 100-continue")[:-4])
        assert AnswerReader(client).read().status == 413


def test_a_silent_connection_is_in_no_log(serve: Serve) -> None:
    served = serve()
    with served.pair(silent=True) as client:
        assert ask(client, get("/", "Connection: close")).status == 200
    with served.pair() as client:
        ask(client, get("/heard"))
    assert [event.request_line for event in served.finished()] == ["GET /heard HTTP/1.1"]


def test_a_silent_request_does_not_count_towards_the_last(build: Serve) -> None:
    served = build(last_request=2).start()
    with served.pair(silent=True) as client:
        ask(client, get("/"))
    with served.pair() as client:
        ask(client, get("/1"))
        assert served.call(lambda: served.last_requests) == 0
        ask(client, get("/2"))
        served.wait_until(lambda: served.last_requests == 1)
        ask(client, get("/3"))
        assert served.call(lambda: served.last_requests) == 1


def test_the_scoreboard_shows_the_running_request_and_its_view(serve: Serve) -> None:
    seen = []

    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        environ["wsgiserve.name_view"]("shop.views.cart")
        seen.append(served.row.status())
        return hello(environ, start_response)

    served = serve(application)
    with served.pair() as client:
        ask(client, get("/cart?x=1"))
    (running,) = seen[0].running
    assert (running.method, running.path, running.view) == ("GET", "/cart", "shop.views.cart")
    served.wait_until(lambda: served.row.status().requests == 1)
    status = served.row.status()
    assert (status.running, status.errors) == ((), 0)
