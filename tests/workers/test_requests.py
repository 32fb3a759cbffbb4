"""Requests over the reactor: every byte boundary, every order of data and end of file."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from django_wsgiserve.events import AppFailed, RequestFinished, RequestRejected
from django_wsgiserve.workers.connection import State
from tests.workers.http_client import AnswerReader, ask, get, post
from tests.workers.served import Served, hello

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Serve = Callable[..., Served]


def digest(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
    """Answer with what came: its length and its SHA-256."""
    body = environ["wsgi.input"].read()
    answer = f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


def digest_of(body: bytes) -> bytes:
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()


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


def reset(client: socket.socket) -> None:
    """Close with an RST, as a client that crashed or was cut off does."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
