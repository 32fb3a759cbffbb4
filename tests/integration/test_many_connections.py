"""Connections that do nothing, or little, cost no request slot and no memory to speak of."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.integration.conftest import RunServer
from tests.integration.held_request import Gate, HeldRequest
from tests.integration.processes import peak_resident_bytes, resident_bytes
from tests.integration.running_server import RunningServer
from tests.integration.wire import Answer, Wire

MIB = 1024 * 1024


def test_a_thousand_idle_connections_do_not_delay_the_next_one(
    run_server: RunServer, many_descriptors: None
) -> None:
    server = run_server("-w", "1", "--worker-connections", "2000")
    pid = server.whoami()["pid"]
    before = resident_bytes(pid)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(1000)]
        for number, wire in enumerate(idle):
            assert wire.request("GET", f"/hello?token={number}").keeps_alive
        for number in range(100):
            assert server.get(f"/hello?token=n{number}").body.startswith(b"n%d " % number)
        assert resident_bytes(pid) - before < 40 * MIB
        for number, wire in enumerate(idle):  # and every one of them is still served
            answer = wire.request("GET", f"/hello?token={number}")
            assert answer.body.split()[0] == b"%d" % number


def test_connections_beyond_the_limit_wait_and_are_served_when_others_leave(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "1", "--worker-connections", "10")
    kept = [server.connect() for _ in range(10)]
    for wire in kept:
        assert wire.request("GET", "/hello").status == 200
    with server.connect() as waiting:
        waiting.send(b"GET /hello?token=waited HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for wire in kept:
            wire.close()
        assert waiting.receive().body.startswith(b"waited ")


def test_a_client_that_sends_a_byte_at_a_time_holds_up_nobody(site: RunningServer) -> None:
    request = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nslow"
    with site.connect() as slow:
        for number, byte in enumerate(request):
            slow.send(bytes([byte]))
            assert site.get(f"/hello?token={number}").body.split()[0] == b"%d" % number
        assert slow.receive().status == 200


def test_slow_readers_of_large_bodies_block_nobody_and_stay_out_of_memory(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "1")
    server.get(f"/large?bytes={50 * MIB}")  # what one such response costs the application itself
    pid = server.whoami()["pid"]
    before = resident_bytes(pid)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(server.connect()) for _ in range(4)]
        for reader in readers:
            reader.send(b"GET /large?bytes=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % (50 * MIB))
            reader.buffer += reader.socket.recv(1000)
            assert server.get("/hello").status == 200
        # Several threads may be in the middle of it; when they are done nothing of it is held.
        server.log.wait_until(lambda: resident_bytes(pid) - before < 60 * MIB)
        for reader in readers:
            assert len(reader.receive().body) == 50 * MIB


def test_a_reader_that_stops_reading_is_given_up_after_write_timeout(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "1", "--write-timeout", "1")
    with server.connect() as reader:
        reader.send(b"GET /large?bytes=60000000&gave-up HTTP/1.1\r\nHost: localhost\r\n\r\n")
        server.access.wait_for("gave-up")
    assert server.get("/hello").status == 200


def test_an_endless_response_to_a_reader_that_stops_ends_without_filling_memory_or_disk(
    run_server: RunServer, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    server = run_server(
        "-w", "1", "--spool-limit", "4MiB", "--write-timeout", "2", "--spool-dir", str(spool)
    )
    pid = server.whoami()["pid"]
    before = peak_resident_bytes(pid)
    with server.connect() as reader:
        reader.send(b"GET /raw/endless?never-read HTTP/1.1\r\nHost: localhost\r\n\r\n")
        server.access.wait_for("never-read")
    assert peak_resident_bytes(pid) - before < 20 * MIB
    assert list(spool.iterdir()) == []
    assert server.whoami()["pid"] == pid


def test_requests_that_wait_for_a_busy_worker_are_answered_when_it_is_free(
    run_server: RunServer, gate: Gate
) -> None:
    server = run_server("-w", "1")
    with server.connect() as first, contextlib.ExitStack() as stack:
        held = HeldRequest(first, gate)
        waiting: list[Wire] = []
        for number in range(20):
            wire = stack.enter_context(server.connect())
            wire.send(b"GET /hello?token=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
            waiting.append(wire)
        gate.release()
        assert isinstance(held.result(), Answer)
        for number, wire in enumerate(waiting):
            assert wire.receive().body.split()[0] == b"%d" % number
