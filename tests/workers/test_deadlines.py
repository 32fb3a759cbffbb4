"""Deadlines: short ones are set, and the test waits for what they do, never for a time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from django_wsgiserve.events import RequestFinished
from django_wsgiserve.workers import reactor as reactor_module
from django_wsgiserve.workers.connection import State
from tests.workers.applications import digest, digest_of
from tests.workers.http_client import AnswerReader, ask, get, post
from tests.workers.served import Served, hello
from tests.workers.test_slow_readers import Endless, large

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Serve = Callable[..., Served]

SOON_S = 0.1


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
def test_a_client_that_sends_no_request_is_closed_without_a_log_line(
    serve: Serve, sent: bytes
) -> None:
    served = serve(header_timeout_s=SOON_S)
    with served.connect() as client:
        client.sendall(sent)
        assert client.recv(100) == b""
    assert served.of(RequestFinished) == []


def test_a_head_that_comes_too_slowly_gets_a_408(serve: Serve) -> None:
    served = serve(header_timeout_s=SOON_S)
    with served.connect() as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: ")
        reader = AnswerReader(client)
        assert reader.read().status == 408
        assert reader.read_to_end() == b""
    (finished,) = served.finished()
    assert (finished.status, finished.request_line) == (408, "GET /slow HTTP/1.1")


def test_a_body_that_stops_gets_a_408(serve: Serve) -> None:
    served = serve(digest, body_timeout_s=SOON_S)
    with served.connect() as client:
        client.sendall(post("/up", b"body", "Connection: close")[:-1])
        reader = AnswerReader(client)
        assert reader.read().status == 408
        assert reader.read_to_end() == b""
    (finished,) = served.finished()
    assert (finished.status, finished.request_line) == (408, "POST /up HTTP/1.1")


def drip(served: Served, client: socket.socket, *, seconds: float, body_bytes: int) -> None:
    """Send all but one byte of a body that takes so many seconds."""
    request = post("/drip", b"x" * body_bytes)
    client.sendall(request[:-2])
    traffic = served.reactor._traffic
    served.wait_until(
        lambda: [c.body.size for c in traffic.connections.values() if c.body] == [body_bytes - 2]
    )

    def move() -> None:
        (connection,) = traffic.connections.values()
        connection.body_since_s -= seconds

    served.call(move)
    client.sendall(request[-2:-1])


def test_a_body_that_comes_too_slowly_gets_a_408_although_it_never_stops(serve: Serve) -> None:
    served = serve(digest, body_min_rate=100)
    with served.connect() as client:
        drip(served, client, seconds=1000.0, body_bytes=1000)
        assert AnswerReader(client).read().status == 408
    (finished,) = served.finished()
    assert (finished.status, finished.request_line) == (408, "POST /drip HTTP/1.1")


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"body_min_rate": 100}, 605.0),  # 60 000 bytes would do for 600 s
        ({"body_min_rate": 0}, 1e6),
        ({"body_min_rate": 10**6}, 599.0),  # BODY_TIMEOUT is not over
    ],
    ids=["fast-enough", "any-rate", "first-moments"],
)
def test_a_body_is_not_too_slow(serve: Serve, settings: dict[str, int], seconds: float) -> None:
    served = serve(digest, **settings)
    with served.connect() as client:
        drip(served, client, seconds=seconds, body_bytes=70_000)
        served.wait_until(lambda: served.row.status().heartbeat_s > 0)
        beats = {served.row.status().heartbeat_s}
        served.wait_until(
            lambda: beats.add(served.row.status().heartbeat_s) or len(beats) > 1  # type: ignore[func-returns-value]
        )
        client.sendall(b"x")
        assert AnswerReader(client).read().body == digest_of(b"x" * 70_000)


def test_an_idle_connection_is_closed_without_a_log_line(serve: Serve) -> None:
    served = serve(keepalive_s=SOON_S)
    with served.connect() as client:
        ask(client, get("/"))
        assert client.recv(100) == b""
    assert len(served.of(RequestFinished)) == 1


def test_a_reader_that_stops_is_given_up(serve: Serve) -> None:
    served = serve(large, write_timeout_s=SOON_S)
    with served.connect() as client:
        client.sendall(get("/large"))
        (finished,) = served.finished()
        assert (finished.status, finished.aborted) == (200, True)
        assert served.connections() == []


def test_a_stream_whose_reader_stops_is_told_so(serve: Serve) -> None:
    application = Endless()
    served = serve(application, write_timeout_s=SOON_S, spool_memory=65536, spool_limit=1 << 20)
    with served.connect() as client, served.connect() as other:
        client.sendall(get("/endless"))
        assert application.closed.wait(20)
        assert served.finished()[0].aborted
        assert ask(other, get("/other")).body == b"/other"


def test_a_client_that_never_closes_is_left_after_its_last_answer(serve: Serve) -> None:
    served = serve()
    with served.connect() as client:
        client.sendall(b"NOT HTTP\r\n\r\n")
        reader = AnswerReader(client)
        assert reader.read().status == 400
        assert reader.read_to_end() == b""
        served.wait_until(lambda: not served.reactor._traffic.connections)
    assert len(served.of(RequestFinished)) == 1


class Held:
    """An application that runs until the test says otherwise."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        """Hold `/held`, answer everything else with what came."""
        if environ["PATH_INFO"] == "/held":
            self.running.set()
            assert self.go_on.wait(20)
            return hello(environ, start_response)
        return digest(environ, start_response)

    def hold(self, served: Served, client: socket.socket) -> None:
        """Send the request that occupies the only slot."""
        client.sendall(get("/held"))
        assert self.running.wait(20)


# What came while a request ran longer than the deadline counts: the client was in time.
@pytest.mark.parametrize(
    ("settings", "first", "rest"),
    [
        ({"header_timeout_s": SOON_S}, b"POST / HTTP/1.1\r\nHost: t", None),
        ({"body_timeout_s": SOON_S}, post("/", b"body")[:-2], b"dy"),
        ({"keepalive_s": SOON_S}, post("/", b"body"), post("/", b"body")),
        ({"header_timeout_s": SOON_S}, b"", post("/", b"body")),
    ],
    ids=["head", "body", "idle", "new"],
)
def test_what_came_in_time_is_served_although_the_worker_looks_late(
    serve: Serve, settings: dict[str, float], first: bytes, rest: bytes | None
) -> None:
    application = Held()
    served = serve(application, **settings)
    with served.pair() as occupant, served.pair() as client:
        client.sendall(first)
        reader = AnswerReader(client)
        if first.endswith(b"body"):
            assert reader.read().status == 200
        served.call(lambda: None)
        application.hold(served, occupant)
        client.sendall(post("/", b"body")[len(first) :] if rest is None else rest)
        # The clock of the loop, put forward, is what a long request does to it.
        for connection in served.reactor._traffic.connections.values():
            if connection.deadline_s:
                connection.deadline_s = 0.001
        served.reactor._clock.next_tick_s = 0.0
        served.reactor._clock.due_s = 0.0
        application.go_on.set()
        answer = reader.read()
        assert (answer.status, answer.body) == (200, digest_of(b"body"))


def test_a_reader_that_took_its_part_while_a_request_ran_is_not_given_up(serve: Serve) -> None:
    application = Held()

    def either(environ: dict[str, Any], start_response: StartResponse) -> Any:
        chosen = large if environ["PATH_INFO"] == "/large" else application
        return chosen(environ, start_response)

    served = serve(either)
    with served.connect() as reader, served.connect() as occupant:
        reader.sendall(get("/large"))
        served.wait_until(
            lambda: any(
                c.state is State.FLUSHING for c in served.reactor._traffic.connections.values()
            )
        )
        application.hold(served, occupant)
        taken = reader.recv(1 << 20)
        for connection in served.reactor._traffic.connections.values():
            if connection.state is State.FLUSHING:
                connection.deadline_s = 0.001
        served.reactor._clock.next_tick_s = 0.0
        served.reactor._clock.due_s = 0.0
        application.go_on.set()
        while taken.count(b"\r\n\r\n") == 0:
            taken += reader.recv(1 << 20)
        left = int(taken.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        left -= len(taken.partition(b"\r\n\r\n")[2])
        while left:
            piece = reader.recv(1 << 20)
            assert piece, f"{left} bytes did not come"
            left -= len(piece)
    assert not any(event.aborted for event in served.finished(2))


def test_requests_that_queue_do_not_silence_the_heartbeat(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor takes a worker for stuck whose heart has not beaten for TIMEOUT."""
    monkeypatch.setattr(reactor_module, "_SERVING_S", 0.0)  # every request takes its time
    beats = set()

    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        beats.add(served.row.status().heartbeat_s)
        served.reactor._clock.next_tick_s = 0.0
        served.reactor._clock.due_s = 0.0
        return hello(environ, start_response)

    served = serve(application)
    pairs = [socket.socketpair() for _ in range(10)]
    for client, _ in pairs:
        client.settimeout(20)
        client.sendall(get("/"))
    # All in one turn: they are queued together.
    served.call(
        lambda: [served.reactor.adopt(server, ("", ""), served.listeners[0]) for _, server in pairs]
    )
    for client, _ in pairs:
        assert AnswerReader(client).read().status == 200
        client.close()
    assert len(beats) >= 9  # the first request also makes log lines due, later


def test_a_refused_upload_gets_its_413_although_it_goes_on_sending(serve: Serve) -> None:
    served = serve(digest, limit_request_body=100_000)
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    for fields in ("", "Connection: close\r\n"):
        head = f"POST / HTTP/1.1\r\nHost: t\r\n{fields}Transfer-Encoding: chunked\r\n\r\n"
        with served.connect() as client:
            client.sendall(head.encode())
            for _ in range(40):
                client.sendall(chunk)
            reader = AnswerReader(client)
            assert reader.read().status == 413
            assert reader.read_to_end() == b""
    assert [event.status for event in served.finished(2)] == [413, 413]


def test_an_upload_announced_as_too_large_gets_its_413_while_it_is_sent(serve: Serve) -> None:
    served = serve(digest, limit_request_body=1000)
    with served.connect() as client:
        client.sendall(post("/", b"x" * 3_000_000, "Connection: close"))
        reader = AnswerReader(client)
        assert reader.read().status == 413
        assert reader.read_to_end() == b""
