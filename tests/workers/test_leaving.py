"""Retire, stop, quit: what is finished, what is closed, and what is never lost."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from django_wsgiserve.events import RequestFinished
from django_wsgiserve.workers.connection import State
from tests.workers.applications import digest, digest_of
from tests.workers.conftest import left_open, open_descriptors
from tests.workers.http_client import AnswerReader, ask, get, post, reset
from tests.workers.served import Served, hello
from tests.workers.test_deadlines import Held
from tests.workers.test_slow_readers import LARGE, large, only

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Serve = Callable[..., Served]


def test_a_worker_without_connections_leaves_at_once(serve: Serve) -> None:
    for stop in (False, True):
        served = serve()
        served.retire(stop=stop)
        served.join()


def test_an_idle_connection_is_kept_until_its_next_request_is_answered(serve: Serve) -> None:
    served = serve()
    with served.connect() as used, served.connect() as fresh:
        ask(used, get("/"))
        served.wait_until(lambda: len(served.reactor._traffic.connections) == 2)
        served.retire(stop=False)
        for client in (used, fresh):
            client.sendall(get("/last"))
            reader = AnswerReader(client)
            answer = reader.read()
            assert (answer.status, answer.body, answer.closes) == (200, b"/last", True)
            assert reader.read_to_end() == b""
    served.join()


def test_a_retiring_worker_accepts_nobody(serve: Serve) -> None:
    served = serve()
    with served.pair() as kept:
        served.retire(stop=False)
        with served.connect() as other:
            other.sendall(get("/other"))
            beat = served.call(lambda: served.row.status().heartbeat_s)
            served.wait_until(lambda: served.row.status().heartbeat_s != beat)
            assert len(served.connections()) == 1
            assert ask(kept, get("/")).closes
            served.join()
            sock, _ = served.listeners[0].socket.accept()
            assert sock.recv(100) == get("/other"), "it was left for another worker"
            sock.close()


def test_a_stop_takes_the_backlog_and_answers_it(build: Serve) -> None:
    served = build()
    clients = [served.connect() for _ in range(20)]
    for number, client in enumerate(clients):
        client.sendall(get(f"/{number}"))
    served.reactor.open()
    served.reactor.retire(stop=True)
    served.start(accepting=False)
    for number, client in enumerate(clients):
        with client:
            answer = AnswerReader(client).read()
            assert (answer.body, answer.closes) == (f"/{number}".encode(), True)
    served.join()
    assert len(served.finished(20)) == 20


def test_a_stop_does_not_listen_again_when_a_client_of_the_backlog_has_left(
    build: Serve,
) -> None:
    served = build()
    served.connect().close()
    served.connect().close()
    served.reactor.open()
    served.reactor.retire(stop=True)
    assert not served.reactor._accepting
    served.start(accepting=False).join()


def test_a_worker_that_never_accepted_takes_no_backlog(build: Serve) -> None:
    served = build()
    with served.connect() as client:
        client.sendall(get("/"))
        served.reactor.retire(stop=True)
        served.start(accepting=False).join()
        sock, _ = served.listeners[0].socket.accept()
        sock.close()


def test_a_stop_closes_idle_connections(serve: Serve) -> None:
    served = serve()
    with served.connect() as used, served.connect() as fresh:
        ask(used, get("/"))
        served.wait_until(lambda: len(served.reactor._traffic.connections) == 2)
        served.retire(stop=True)
        served.join()
        assert used.recv(10) == fresh.recv(10) == b""


@pytest.mark.parametrize("request_slots", [1])
def test_a_stop_answers_what_had_come_before_it(serve: Serve) -> None:
    application = Held()
    served = serve(application)
    with served.pair() as occupant, served.pair() as idle, served.connect() as unseen:
        ask(idle, post("/", b"1"))
        served.wait_until(lambda: len(served.reactor._traffic.connections) == 3)
        application.hold(served, occupant)
        idle.sendall(post("/", b"idle"))
        unseen.sendall(post("/", b"unseen"))
        served._calls.append(lambda: served.reactor.retire(stop=True))
        served._wake.send(b"!")
        application.go_on.set()
        for client, body in ((idle, b"idle"), (unseen, b"unseen")):
            answer = AnswerReader(client).read()
            assert (answer.body, answer.closes) == (digest_of(body), True)
        assert AnswerReader(occupant).read().body == b"/held"
    served.join()


def test_a_stop_answers_pipelined_requests_that_were_read_already(serve: Serve) -> None:
    stopped: list[bool] = []

    def stop() -> None:
        served.reactor.retire(stop=True)
        stopped.append(True)

    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] == "/1":
            served._calls.append(stop)
            served._wake.send(b"!")
        return hello(environ, start_response)

    served = serve(application)
    with served.pair() as client:
        client.sendall(get("/1") + get("/2"))
        reader = AnswerReader(client)
        first = reader.read()
        assert first.body == b"/1"
        if first.closes:  # whoever led meanwhile was told before the answer was made
            assert reader.read_to_end() == b""
        else:
            assert reader.read().body == b"/2"
    served.join()
    assert stopped


def test_a_stop_closes_a_connection_that_becomes_idle_after_it(serve: Serve) -> None:
    """Its answer had promised to keep it: it was made before the order came."""
    served = serve(large)
    with served.connect() as client:
        client.sendall(get("/large"))
        served.wait_until(lambda: only(served, State.FLUSHING) is not None)
        served.retire(stop=True)
        reader = AnswerReader(client)
        answer = reader.read()
        assert (answer.body, answer.closes) == (LARGE, False)
        assert reader.read_to_end() == b""
    served.join()


def test_a_stop_after_a_retirement_closes_idle_connections(serve: Serve) -> None:
    served = serve()
    with served.connect() as client:
        ask(client, get("/"))
        served.retire(stop=False)
        served.retire(stop=False)
        assert len(served.connections()) == 1
        served.retire(stop=True)
        served.join()
        assert client.recv(10) == b""


def test_requests_that_have_begun_are_finished(serve: Serve) -> None:
    served = serve(digest)
    with served.pair() as head, served.pair() as body:
        head.sendall(b"POST / HTTP/1.1\r\nHost: t\r\n")
        body.sendall(post("/", b"body")[:-1])
        served.wait_until(lambda: only(served, State.BODY) is not None)
        served.retire(stop=True)
        head.sendall(b"Content-Length: 0\r\n\r\n")
        body.sendall(b"y")
        assert AnswerReader(head).read().closes
        answer = AnswerReader(body).read()
        assert (answer.body, answer.closes) == (digest_of(b"body"), True)
    served.join()


def test_a_worker_leaves_when_its_patience_is_over_and_says_what_it_broke_off(
    serve: Serve,
) -> None:
    def either(environ: dict[str, Any], start_response: StartResponse) -> Any:
        return (large if environ["PATH_INFO"] == "/large" else digest)(environ, start_response)

    served = serve(either, graceful_timeout_s=0.0)
    with (
        served.pair() as idle,
        served.pair() as head,
        served.pair() as body,
        served.pair() as reader,
    ):
        ask(idle, get("/"))
        head.sendall(b"GET /head HTTP/1.1\r\n")
        body.sendall(post("/body", b"body")[:-1])
        reader.sendall(get("/large"))
        served.wait_until(
            lambda: (
                {c.state for c in served.reactor._traffic.connections.values()}
                == {State.IDLE, State.HEAD, State.BODY, State.FLUSHING}
            )
        )
        served.retire(stop=False)
        served.join()
        ended = {event.request_line: event for event in served.finished(4)}
        assert set(ended) == {
            "GET / HTTP/1.1",
            "GET /head HTTP/1.1",
            "POST /body HTTP/1.1",
            "GET /large HTTP/1.1",
        }
        assert [event.aborted for event in served.of(RequestFinished)].count(True) == 3


def test_quitting_breaks_off_everything_and_says_so_once(serve: Serve) -> None:
    application = Held()
    served = serve(application)
    with (
        served.pair() as occupant,
        served.pair() as queued,
        served.pair() as idle,
        served.pair() as refused,
    ):
        ask(idle, post("/", b""))
        refused.sendall(b"NOT HTTP\r\n\r\n")
        assert AnswerReader(refused).read().status == 400
        application.hold(served, occupant)
        queued.sendall(post("/queued", b""))
        served._calls.append(served.reactor.quit)
        served._wake.send(b"!")
        application.go_on.set()
        served.join()
        assert AnswerReader(occupant).read().body == b"/held"
        assert idle.recv(10) == b""
    lines = [event.request_line for event in served.of(RequestFinished)]
    assert sorted(lines) == sorted(set(lines))
    assert served.reactor._traffic.connections == {}


def test_nothing_is_left_open_however_clients_end(serve: Serve, tmp_path: Any) -> None:
    served = serve(large, spool_memory=0)
    before = open_descriptors()
    for _ in range(3):
        for sent in (
            b"",
            b"GET",
            b"NOT HTTP\r\n\r\n",
            get("/"),
            get("/large"),
            post("/", b"body"),
            post("/", b"body")[:-1],
            get("/", "Connection: close"),
            get("/1") * 3,
        ):
            polite, rude = served.connect(), served.connect()
            polite.sendall(sent)
            rude.sendall(sent)
            polite.shutdown(socket.SHUT_WR)
            while polite.recv(1 << 20):
                pass
            polite.close()
            reset(rude)
    served.wait_until(lambda: not served.reactor._traffic.connections)
    assert not left_open(before)


@pytest.mark.parametrize("round_", range(3))
def test_every_request_is_answered_or_its_connection_untouched_through_a_stop(
    serve: Serve, round_: int
) -> None:
    """A closed loop against a stop: an answer is whole, or none of it came."""
    served = serve()
    answered = 0
    with served.connect() as client:
        reader = AnswerReader(client)
        for number in range(2000):
            if number == 50 + round_:
                served._calls.append(lambda: served.reactor.retire(stop=False))
                served._wake.send(b"!")
            client.sendall(get(f"/{number}"))
            answer = reader.read()
            assert answer.body == f"/{number}".encode()
            answered += 1
            if answer.closes:
                break
        assert reader.read_to_end() == b""
    served.join()
    assert answered == len(served.of(RequestFinished)) < 2000
