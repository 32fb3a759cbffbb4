"""Requests that wait for a slot: for too long, and for clients that have left.

All slots are busy until the test lets them go. Time passes by moving the moment when a
connection began to wait.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from django_wsgiserve.events import RequestFinished, RequestRejected
from django_wsgiserve.workers.connection import Connection, State
from django_wsgiserve.workers.poller import EpollPoller, SelectorsPoller
from tests.workers.applications import digest, digest_of
from tests.workers.http_client import AnswerReader, ask, get, post, reset
from tests.workers.served import DEADLINE_S, Served

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Serve = Callable[..., Served]
PollerClass = type[EpollPoller | SelectorsPoller]

LONG_S = 600.0


class Busy:
    """An application that keeps every slot busy, and notes what else it was called for."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._running = threading.Semaphore(0)
        self._go_on = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        """Hold `/busy`, answer everything else with what came."""
        if environ["PATH_INFO"] == "/busy":
            self._running.release()
            assert self._go_on.wait(DEADLINE_S)
        else:
            self.paths.append(environ["PATH_INFO"])
        return digest(environ, start_response)

    @contextlib.contextmanager
    def occupy(self, served: Served) -> Iterator[None]:
        """Keep all slots busy until the end of the block."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(served.connect()) for _ in range(served.request_slots)]
            for client in clients:
                client.sendall(get("/busy", "Connection: close"))
                assert self._running.acquire(timeout=DEADLINE_S)
            try:
                yield
            finally:
                self._go_on.set()
            for client in clients:
                assert AnswerReader(client).read().status == 200


def connections(served: Served) -> list[Connection]:
    """Return all connections; call it in the loop's thread."""
    return list(served.reactor._traffic.connections.values())


def waiting(served: Served) -> list[Connection]:
    """Return the connections that wait for a slot; call it in the loop's thread."""
    return [
        c
        for c in connections(served)
        if c.state is State.QUEUED or (c.state is State.IDLE and c.unread)
    ]


def let_wait(served: Served, count: int, seconds: float = 10 * LONG_S) -> None:
    """Wait until `count` connections wait, and let them all have waited for `seconds`."""
    served.wait_until(lambda: len(waiting(served)) == count)

    def move() -> None:
        for connection in waiting(served):
            connection.waits_since_s -= seconds
        served.reactor._clock.next_tick_s = served.reactor._clock.due_s = 0.0

    served.call(move)


def known(served: Served) -> socket.socket:
    """Return a client that has been answered once, and waits for nothing."""
    client = served.connect()
    assert ask(client, get("/known")).status == 200
    return client


def test_a_request_that_waits_for_too_long_gets_a_503_while_all_slots_are_busy(
    serve: Serve,
) -> None:
    application = Busy()
    served = serve(application, max_queue_wait_s=LONG_S)
    with known(served) as client:
        with application.occupy(served):
            client.sendall(get("/late"))
            let_wait(served, 1)
            answer = AnswerReader(client).read()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert not answer.closes
        assert ask(client, get("/again")).status == 200
    assert "/late" not in application.paths
    (late,) = (event for event in served.of(RequestFinished) if event.status == 503)
    assert (late.request_line, late.aborted) == ("GET /late HTTP/1.1", False)
    assert late.sent_bytes == len(answer.body)
    assert dict(late.headers)["Retry-After"] == "1"
    (rejected,) = served.of(RequestRejected)
    assert "MAX_QUEUE_WAIT" in rejected.reason


def test_who_connects_while_all_slots_are_busy_waits_no_longer_than_others(serve: Serve) -> None:
    application = Busy()
    served = serve(application, max_queue_wait_s=0.1)
    with application.occupy(served), served.connect() as client:
        assert ask(client, get("/late")).status == 503
        assert not served.row.words[served.row.idle_at], "others take it for idle"


def test_the_503_is_as_the_request_wants_it(serve: Serve) -> None:
    application = Busy()
    served = serve(application, max_queue_wait_s=0.1)
    with application.occupy(served):
        with served.connect() as client:
            client.sendall(get("/", "Connection: close"))
            reader = AnswerReader(client)
            assert reader.read().closes
            assert reader.read_to_end() == b""
        with served.connect() as client:
            client.sendall(get("/").replace(b"GET", b"HEAD"))
            reader = AnswerReader(client)
            assert reader.read(head_only=True).status == 503
            client.sendall(get("/", "Connection: close"))
            assert reader.read().status == 503
        with served.connect() as client:
            client.sendall(get("/", version="HTTP/1.0"))
            reader = AnswerReader(client)
            assert reader.read().status == 503
            assert reader.read_to_end() == b""


def test_no_503_promises_a_connection_that_is_not_kept(serve: Serve) -> None:
    application = Busy()
    served = serve(application, max_queue_wait_s=0.1, keepalive_s=0.0)
    with application.occupy(served), served.connect() as client:
        answer = ask(client, get("/late"))
        assert (answer.status, answer.closes) == (503, True)


def test_only_what_has_waited_for_too_long_is_refused(serve: Serve) -> None:
    application = Busy()
    served = serve(application, max_queue_wait_s=LONG_S)
    with known(served) as late, known(served) as early:
        with application.occupy(served):
            late.sendall(get("/late"))
            let_wait(served, 1, LONG_S - 60.0)
            early.sendall(get("/early"))
            let_wait(served, 2, 61.0)
            assert AnswerReader(late).read().status == 503
        assert AnswerReader(early).read().status == 200


def test_a_client_that_has_sent_nothing_is_not_refused(serve: Serve) -> None:
    application = Busy()
    served = serve(application, max_queue_wait_s=LONG_S)
    client, server = socket.socketpair()
    client.settimeout(DEADLINE_S)
    with client:
        with application.occupy(served):
            served.adopt(server)
            let_wait(served, 1)
            served.wait_until(lambda: not waiting(served))
        assert ask(client, get("/at-last")).status == 200


@pytest.mark.parametrize("cut", [20, -1], ids=["head", "body"])
def test_a_request_that_is_not_whole_does_not_wait_for_a_slot(serve: Serve, cut: int) -> None:
    application = Busy()
    served = serve(application, max_queue_wait_s=LONG_S)
    request = post("/late", b"body")
    with known(served) as client:
        with application.occupy(served):
            client.sendall(request[:cut])
            let_wait(served, 1)
            served.wait_until(lambda: not waiting(served))
            client.sendall(request[cut:])
            let_wait(served, 1, 0.0)
        assert AnswerReader(client).read().body == digest_of(b"body")


def test_a_request_whose_end_came_late_waits_from_there(serve: Serve) -> None:
    application = Busy()
    served = serve(application, max_queue_wait_s=LONG_S)
    request = post("/late", b"body")
    with known(served) as client, application.occupy(served):
        client.sendall(request[:-1])
        let_wait(served, 1)
        served.wait_until(lambda: not waiting(served))
        client.sendall(request[-1:])
        let_wait(served, 1)
        assert AnswerReader(client).read().status == 503
    assert application.paths == ["/known"]


def test_requests_wait_for_as_long_as_it_takes_by_default(serve: Serve) -> None:
    application = Busy()
    served = serve(application)
    with known(served) as client:
        with application.occupy(served):
            client.sendall(get("/patient"))
            let_wait(served, 1)
        assert AnswerReader(client).read().status == 200


# -- clients that have left ---------------------------------------------------------------------


def left(served: Served) -> RequestFinished:
    """Wait for the end of a request that was not served; return it."""
    served.wait_until(lambda: any(e.status == 499 for e in served.of(RequestFinished)))
    (event,) = (event for event in served.of(RequestFinished) if event.status == 499)
    return event


def test_a_client_that_reset_is_not_served(serve: Serve, poller: PollerClass) -> None:
    application = Busy()
    served = serve(application)
    client = known(served)
    with application.occupy(served):
        client.sendall(get("/left"))
        served.wait_until(lambda: len(waiting(served)) == 1)
        reset(client)
        if poller is EpollPoller:
            assert left(served).request_line == "GET /left HTTP/1.1"
            assert waiting(served) == []
        else:  # no event tells of a reset where nothing is to be read
            let_wait(served, 1)
    assert left(served).aborted
    assert "/left" not in application.paths


def test_a_client_that_closed_a_unix_socket_is_not_served(
    serve: Serve, poller: PollerClass
) -> None:
    application = Busy()
    served = serve(application)
    client = served.pair()
    ask(client, get("/known"))
    with application.occupy(served):
        client.sendall(get("/left"))
        served.wait_until(lambda: len(waiting(served)) == 1)
        client.close()
        if poller is SelectorsPoller:
            let_wait(served, 1)
        else:
            left(served)
    assert left(served).request_line == "GET /left HTTP/1.1"
    assert "/left" not in application.paths


def test_a_client_that_sends_no_more_and_has_waited_is_not_served(
    serve: Serve, poller: PollerClass
) -> None:
    application = Busy()
    served = serve(application)
    with known(served) as client:
        with application.occupy(served):
            client.sendall(get("/left"))
            client.shutdown(socket.SHUT_WR)
            let_wait(served, 1, 1.0)
            if poller is EpollPoller:
                left(served)
        assert client.recv(100) == b""
    assert left(served).sent_bytes == 0
    assert "/left" not in application.paths


def test_a_client_that_half_closed_and_had_to_wait_for_a_moment_is_served(serve: Serve) -> None:
    application = Busy()
    served = serve(application)
    with known(served) as client:
        with application.occupy(served):
            client.sendall(get("/half"))
            client.shutdown(socket.SHUT_WR)
            # Set back once more, in case that this test itself takes a second.
            let_wait(served, 1, -LONG_S)
        reader = AnswerReader(client)
        assert reader.read().status == 200
        assert reader.read_to_end() == b""


def test_an_upload_whose_sender_left_is_not_served(serve: Serve) -> None:
    application = Busy()
    served = serve(application)
    with served.connect() as client:
        client.sendall(post("/left", b"body")[:-1])
        served.wait_until(lambda: any(c.state is State.BODY for c in connections(served)))
        with application.occupy(served):
            client.sendall(b"y")
            client.shutdown(socket.SHUT_WR)
            let_wait(served, 1)
        assert client.recv(100) == b""
    assert left(served).request_line == "POST /left HTTP/1.1"
    assert application.paths == []


def test_a_connection_that_ends_without_a_request_is_let_go_while_all_slots_are_busy(
    serve: Serve, poller: PollerClass
) -> None:
    application = Busy()
    served = serve(application)
    with known(served) as client:
        with application.occupy(served):
            client.shutdown(socket.SHUT_WR)
            let_wait(served, 1)
            if poller is EpollPoller:
                assert client.recv(100) == b""
        assert client.recv(100) == b""
    served.finished(1 + served.request_slots)
    assert [event.status for event in served.of(RequestFinished) if event.aborted] == []


def test_a_new_client_that_sends_nothing_is_closed_although_all_slots_are_busy(
    serve: Serve,
) -> None:
    application = Busy()
    served = serve(application, header_timeout_s=0.1)
    client, server = socket.socketpair()
    client.settimeout(DEADLINE_S)
    with client, application.occupy(served):
        served.adopt(server)
        assert client.recv(100) == b""
