"""Clients that read slowly, or not at all: bounded memory, no slot, no lost wakeup."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from django_wsgiserve.workers.connection import Connection, State
from tests.workers.applications import digest, digest_of
from tests.workers.conftest import left_open, open_descriptors
from tests.workers.http_client import AnswerReader, ask, get, post, reset
from tests.workers.served import Served, hello
from tests.workers.test_output import fill

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Serve = Callable[..., Served]

MEBIBYTE = 1 << 20
LARGE = hashlib.sha256(b"large").digest() * (MEBIBYTE // 2)
"""16 MiB: more than both kernels' buffers and four turns take."""


def large(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
    """Answer `/large` with much at once, everything else with little."""
    if environ["PATH_INFO"] != "/large":
        return hello(environ, start_response)
    start_response("200 OK", [("Content-Length", str(len(LARGE)))])
    return [LARGE]


def stream(environ: dict[str, Any], start_response: StartResponse) -> Any:
    """Answer `/large` with as much in 64 KiB pieces, everything else with little."""
    if environ["PATH_INFO"] != "/large":
        return hello(environ, start_response)
    start_response("200 OK", [])
    return (LARGE[start : start + 65536] for start in range(0, len(LARGE), 65536))


def only(served: Served, state: State) -> Connection | None:
    """Return a connection in `state`; call it in the loop's thread."""
    found = [c for c in served.reactor._traffic.connections.values() if c.state is state]
    return found[0] if found else None


class Endless:
    """An application that streams until it is told that nobody reads, and says what it saw."""

    def __init__(self) -> None:
        self.pieces = 0
        self.closed = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        """Stream for `/endless`, answer everything else with its path."""
        if environ["PATH_INFO"] != "/endless":
            return hello(environ, start_response)
        start_response("200 OK", [])
        return self._pieces()

    def _pieces(self) -> Iterator[bytes]:
        try:
            while True:
                self.pieces += 1
                yield b"x" * 65536
        finally:
            self.closed.set()


def test_a_large_answer_to_a_slow_reader_frees_the_slot(serve: Serve) -> None:
    served = serve(large)
    with served.connect() as slow, served.connect() as quick:
        slow.sendall(get("/large"))
        served.wait_until(lambda: only(served, State.FLUSHING) is not None)
        assert ask(quick, get("/quick")).body == b"/quick"
        served.wait_until(lambda: served.row.status().running == ())
        assert AnswerReader(slow).read().body == LARGE


def test_what_a_slow_reader_leaves_is_held_on_disk(serve: Serve, tmp_path: Path) -> None:
    served = serve(large, spool_memory=MEBIBYTE, spool_dir=str(tmp_path))
    with served.connect() as slow:
        slow.sendall(get("/large"))
        served.wait_until(lambda: only(served, State.FLUSHING) is not None)
        (connection,) = served.connections()
        assert served.call(lambda: connection.output._memory_bytes) <= MEBIBYTE
        spooled = [name for name in open_descriptors().values() if str(tmp_path) in name]
        assert len(spooled) == 1
        assert AnswerReader(slow).read().body == LARGE
    served.finished()
    assert not [name for name in open_descriptors().values() if str(tmp_path) in name]


@pytest.mark.parametrize("application", [large, stream])
def test_a_reader_as_fast_as_the_server_gets_everything(serve: Serve, application: Any) -> None:
    served = serve(application, spool_limit=MEBIBYTE)
    with served.connect() as client:
        for _ in range(3):
            assert ask(client, get("/large")).body == LARGE
    assert not any(event.aborted for event in served.finished(3))


def test_a_pipelined_request_behind_a_large_answer_is_answered(serve: Serve) -> None:
    served = serve(large)
    with served.connect() as client:
        client.sendall(get("/large") + get("/next"))
        served.wait_until(lambda: only(served, State.FLUSHING) is not None)
        client.sendall(get("/last"))
        client.shutdown(socket.SHUT_WR)
        served.wait_until(lambda: bool((c := only(served, State.FLUSHING)) and c.unread))
        reader = AnswerReader(client)
        assert [reader.read().body for _ in range(3)] == [LARGE, b"/next", b"/last"]
        assert reader.read_to_end() == b""


def test_a_client_that_half_closed_while_it_was_flushed_to_is_let_go(serve: Serve) -> None:
    served = serve(large)
    with served.connect() as client:
        client.sendall(get("/large"))
        served.wait_until(lambda: only(served, State.FLUSHING) is not None)
        client.sendall(b"GET /part")
        client.shutdown(socket.SHUT_WR)
        served.wait_until(lambda: bool((c := only(served, State.FLUSHING)) and c.unread))
        reader = AnswerReader(client)
        assert reader.read().body == LARGE
        assert reader.read().status == 400
        assert reader.read_to_end() == b""


def test_a_slow_reader_that_resets_is_logged_and_forgotten(serve: Serve) -> None:
    served = serve(large)
    client = served.connect()
    client.sendall(get("/large"))
    served.wait_until(lambda: only(served, State.FLUSHING) is not None)
    reset(client)
    (finished,) = served.finished()
    assert (finished.status, finished.aborted) == (200, True)
    assert 0 < finished.sent_bytes < len(LARGE)
    assert served.connections() == []


def test_a_stream_is_not_produced_further_than_the_spool_limit(serve: Serve) -> None:
    application = Endless()
    served = serve(application, spool_memory=65536, spool_limit=MEBIBYTE)
    with served.connect() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(get("/endless"))
        served.wait_until(lambda: served.relieving)
        produced = application.pieces
        (connection,) = served.connections()
        held = connection.output.held_bytes
        assert MEBIBYTE <= held <= MEBIBYTE + 65536 + 20
        served.wait_until(lambda: served.turns > 5)
        assert application.pieces == produced
        assert connection.output.held_bytes == held
        assert served.row.status().running == (), "TIMEOUT does not count the client's time"
    assert application.closed.wait(20)
    assert served.finished()[0].aborted


def test_others_are_flushed_and_read_while_a_stream_waits_for_its_client(serve: Serve) -> None:
    """A request that comes meanwhile waits for a slot, and is answered then."""
    application = Endless()
    served = serve(application, spool_memory=65536, spool_limit=MEBIBYTE)
    with served.connect() as waiting:
        with served.connect() as slow:
            ask(waiting, get("/first"))
            slow.sendall(get("/endless"))
            served.wait_until(lambda: served.relieving)
            waiting.sendall(get("/second"))
            if served.request_slots == 1:
                served.wait_until(lambda: len(served.reactor._traffic.ready) == 1)
            before = served.call(lambda: served.turns)
            beats = {served.call(lambda: served.row.status().heartbeat_s)}
            served.wait_until(lambda: served.row.status().heartbeat_s not in beats)
            assert served.call(lambda: served.turns) - before < 150, "it spins"
        assert AnswerReader(waiting).read().body == b"/second"
    assert application.closed.wait(20)


@pytest.mark.parametrize("request_slots", [1])
def test_new_connections_are_left_to_other_workers_while_a_stream_waits(serve: Serve) -> None:
    application = Endless()
    served = serve(application, spool_memory=65536, spool_limit=MEBIBYTE)
    with served.connect() as slow:
        slow.sendall(get("/endless"))
        served.wait_until(lambda: served.relieving)
        with served.connect() as other:
            other.sendall(get("/other"))
            beat = served.call(lambda: served.row.status().heartbeat_s)
            served.wait_until(lambda: served.row.status().heartbeat_s != beat)
            assert len(served.connections()) == 1
            slow.close()
            assert AnswerReader(other).read().body == b"/other"


def test_a_stream_goes_on_when_its_client_reads_again(serve: Serve) -> None:
    served = serve(stream, spool_memory=65536, spool_limit=MEBIBYTE)
    with served.connect() as client:
        for _ in range(2):
            client.sendall(get("/large"))
            served.wait_until(lambda: served.relieving)
            assert AnswerReader(client).read().body == LARGE
        turns = served.call(lambda: served.turns)
        beat = served.call(lambda: served.row.status().heartbeat_s)
        served.wait_until(lambda: served.row.status().heartbeat_s != beat)
        assert served.call(lambda: served.turns) - turns < 150, "it spins"


def test_a_relieved_client_that_half_closes_still_gets_everything(serve: Serve) -> None:
    served = serve(stream, spool_memory=65536, spool_limit=MEBIBYTE)
    with served.connect() as client:
        client.sendall(get("/large"))
        served.wait_until(lambda: served.relieving)
        client.shutdown(socket.SHUT_WR)
        reader = AnswerReader(client)
        assert reader.read().body == LARGE
        assert reader.read_to_end() == b""
    assert not served.finished()[0].aborted


def test_a_worker_that_retires_lets_a_waiting_stream_finish(serve: Serve) -> None:
    served = serve(stream, spool_memory=65536, spool_limit=MEBIBYTE)
    with served.connect() as client:
        client.sendall(get("/large"))
        served.wait_until(lambda: served.relieving)
        served.retire(stop=True)
        assert AnswerReader(client).read().body == LARGE
    served.join()
    assert not served.finished()[0].aborted


def test_a_worker_that_quits_does_not_produce_for_nobody(serve: Serve) -> None:
    application = Endless()
    served = serve(application, spool_memory=65536, spool_limit=MEBIBYTE)
    with served.connect() as client:
        client.sendall(get("/endless"))
        served.wait_until(lambda: served.relieving)
        produced = application.pieces
        served.call(served.reactor.quit)
        served.join()
        assert application.closed.is_set()
        assert application.pieces <= produced + 1
    assert served.finished()[0].aborted


@pytest.mark.parametrize("spool_memory", [0, 65536])
def test_without_a_directory_for_it_the_application_waits_for_its_client(
    serve: Serve, tmp_path: Path, spool_memory: int
) -> None:
    served = serve(stream, spool_memory=spool_memory, spool_dir=str(tmp_path / "absent"))
    with served.connect() as client:
        client.sendall(get("/large"))
        served.wait_until(lambda: served.relieving)
        (connection,) = served.connections()
        assert connection.output.held_bytes <= spool_memory + 65536 + 20
        assert AnswerReader(client).read().body == LARGE
        assert ask(client, get("/again")).body == b"/again"


def test_a_file_is_sent_to_a_slow_reader_without_being_held(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LARGE)
    served = serve(send_file(tmp_path / "file"))
    before = open_descriptors()
    with served.connect() as client:
        client.sendall(get("/file"))
        served.wait_until(lambda: only(served, State.FLUSHING) is not None)
        (connection,) = served.connections()
        assert served.call(lambda: connection.output.held_bytes) == 0
        reader = AnswerReader(client)
        assert reader.read().body == LARGE
        assert ask(client, get("/file")).body == LARGE
    served.finished(2)
    served.wait_until(lambda: not served.reactor._traffic.connections)
    assert not left_open(before)


def test_a_reader_of_a_file_that_leaves_gives_back_its_descriptor(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(LARGE)
    served = serve(send_file(tmp_path / "file"))
    before = open_descriptors()
    for _ in range(3):
        client = served.connect()
        client.sendall(get("/file"))
        served.wait_until(lambda: only(served, State.FLUSHING) is not None)
        reset(client)
        served.wait_until(lambda: not served.reactor._traffic.connections)
    assert not left_open(before)
    assert [event.aborted for event in served.finished(3)] == [True] * 3


def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    served = serve(send_file(path))
    with served.connect() as client:
        client.sendall(get("/file"))
        served.wait_until(lambda: only(served, State.FLUSHING) is not None)
        os.truncate(path, 100)
        with pytest.raises((EOFError, ConnectionResetError)):
            AnswerReader(client).read()
    assert served.finished()[0].aborted


def test_many_slow_readers_leave_no_descriptor_behind(serve: Serve) -> None:
    served = serve(stream, spool_memory=0)
    before = open_descriptors()
    clients = [served.connect() for _ in range(12)]
    for client in clients:
        client.sendall(get("/large"))
    served.wait_until(
        lambda: (
            [c.state for c in served.reactor._traffic.connections.values()] == [State.FLUSHING] * 12
        )
    )
    for number, client in enumerate(clients):
        if number % 2:
            assert AnswerReader(client).read().body == LARGE
        client.close()
    served.finished(12)
    served.wait_until(lambda: not served.reactor._traffic.connections)
    assert not left_open(before)


def send_file(path: Path) -> Callable[..., Any]:
    """Return an application that answers with a file."""

    def application(environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    return application


def stuffed(served: Served) -> tuple[socket.socket, int]:
    """Return a client that has that many bytes to read before anything else fits."""
    client, server = socket.socketpair()
    client.settimeout(20)
    server.setblocking(False)
    filled = fill(server)
    served.adopt(server)
    return client, filled


def test_100_continue_reaches_a_client_that_has_yet_to_read(serve: Serve) -> None:
    served = serve(digest)
    client, filled = stuffed(served)
    with client:
        request = post("/", b"body", "Expect: 100-continue")
        client.sendall(request[:-4])
        served.wait_until(lambda: only(served, State.BODY) is not None)
        while filled:
            filled -= len(client.recv(filled))
        assert AnswerReader(client).read().status == 100
        client.sendall(request[-4:])
        assert AnswerReader(client).read().body == digest_of(b"body")
        turns = served.call(lambda: served.turns)
        beat = served.call(lambda: served.row.status().heartbeat_s)
        served.wait_until(lambda: served.row.status().heartbeat_s != beat)
        assert served.call(lambda: served.turns) - turns < 150, "it spins"


def test_a_refusal_waits_for_its_client_without_disk_and_without_a_slot(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve(spool_memory=0, spool_dir=str(tmp_path / "absent"))
    client, filled = stuffed(served)
    with client, served.pair() as other:
        client.sendall(b"NOT HTTP\r\n\r\n")
        served.wait_until(lambda: only(served, State.FLUSHING) is not None)
        assert served.call(served.row.status).running == ()
        assert ask(other, get("/other")).body == b"/other"
        while filled:
            filled -= len(client.recv(filled))
        assert AnswerReader(client).read().status == 400
