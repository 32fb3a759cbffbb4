"""More than a server can do: who waits is told so, who has left is not served, and it ends."""

from __future__ import annotations

import contextlib
import json
import select
import socket
from pathlib import Path

import pytest

from tests.integration.conftest import REQUEST_SLOTS, RunServer
from tests.integration.fleet import hold_every_slot
from tests.integration.held_request import Gate
from tests.integration.wire import Answer, Wire

LOW_LIMIT = ("sh", "-c", 'ulimit -n 64 && exec "$@"', "sh")


def ask_for(path: str) -> bytes:
    """Return a request whose access-log line is recognised by its path."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_that_no_worker_has_time_for_gets_a_503_and_its_connection_goes_on(
    run_server: RunServer, worker_class: str, gate: Gate, workers: int
) -> None:
    server = run_server("-w", str(workers), "--max-queue-wait", "300ms")
    with contextlib.ExitStack() as stack:
        known = stack.enter_context(server.connect())
        assert known.request("GET", "/hello").status == 200
        slots = REQUEST_SLOTS[worker_class]
        held = hold_every_slot(server, gate, of=server.workers(), slots=slots, stack=stack)
        new = [stack.enter_context(server.connect()) for _ in range(10)]
        for wire in (known, *new):
            wire.send(ask_for("/hello?token=late"))
        for wire in (known, *new):
            answer = wire.receive()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.keeps_alive
        gate.release()
        for request in held:
            outcome = request.result()
            assert isinstance(outcome, Answer)
            assert outcome.status == 200
        for number, wire in enumerate((known, *new)):
            answer = wire.request("GET", f"/hello?token=again-{number}")
            assert answer.body.startswith(b"again-%d " % number)
    server.access.wait_for(r"token=late.*\b503\b", count=11)
    server.log.wait_for("MAX_QUEUE_WAIT")


def test_requests_that_one_worker_has_no_time_for_are_served_by_another(
    run_server: RunServer, worker_class: str, gate: Gate
) -> None:
    server = run_server("-w", "2", "--max-queue-wait", "20s")
    busy = min(server.workers())
    with contextlib.ExitStack() as stack:
        slots = REQUEST_SLOTS[worker_class]
        hold_every_slot(server, gate, of={busy}, slots=slots, stack=stack)
        wires = [stack.enter_context(server.connect()) for _ in range(20)]
        for wire in wires:
            wire.send(ask_for("/hello"))
        for wire in wires:
            answer = wire.receive()
            assert answer.status == 200
            assert int(answer.body.split()[-1]) != busy
        gate.release()


@pytest.mark.parametrize("how", ["resets", "gives-up"])
def test_a_client_that_leaves_while_it_waits_is_not_served(
    run_server: RunServer, worker_class: str, gate: Gate, how: str
) -> None:
    server = run_server("-w", "1")
    before = int(server.get("/raw/count").body)
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(server.connect()) for _ in range(5)]
        for wire in wires:
            assert wire.request("GET", "/raw/count").status == 200
        slots = REQUEST_SLOTS[worker_class]
        hold_every_slot(server, gate, of=server.workers(), slots=slots, stack=stack)
        for wire in wires:
            wire.send(ask_for("/raw/count?left"))
            if how == "resets":
                wire.reset()
            else:
                wire.socket.shutdown(socket.SHUT_WR)
        server.access.wait_for(r"(/raw/count\?left|left).*\b499\b", count=5)
        gate.release()
    assert int(server.get("/raw/count").body) == before + 5 + slots + 1


def test_a_proxy_that_closes_its_unix_socket_is_not_served(
    run_server: RunServer, worker_class: str, gate: Gate, tmp_path: Path
) -> None:
    server = run_server("-w", "1", "--bind", f"unix:{tmp_path / 'site.sock'}")
    before = int(server.get("/raw/count").body)
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(server.connect())
        assert wire.request("GET", "/raw/count").status == 200
        slots = REQUEST_SLOTS[worker_class]
        hold_every_slot(server, gate, of=server.workers(), slots=slots, stack=stack)
        wire.send(ask_for("/raw/count?left"))
        wire.close()
        server.access.wait_for(r"left.*\b499\b")
        gate.release()
    assert int(server.get("/raw/count").body) == before + 1 + slots + 1


def test_a_server_without_descriptors_serves_whom_it_has_and_recovers(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "1", "--spool-memory", "0", prefix=LOW_LIMIT)
    with contextlib.ExitStack() as stack:
        served: list[Wire] = []
        while "cannot accept" not in server.log.text:
            wire = stack.enter_context(server.connect())
            wire.send(ask_for("/hello?token=waiting"))
            served.append(wire)
            assert len(served) < 100, "a limit of 64 was not noticed"
            server.log.wait_until(
                lambda wire=wire: answered(wire) or "cannot accept" in server.log.text  # type: ignore[misc]
            )
        waiting = [wire for wire in served if not answered(wire)]
        served = [wire for wire in served if wire not in waiting]
        assert waiting
        assert "at most 64 in a process" in server.log.text
        for wire in served:
            assert wire.receive().status == 200
            assert wire.request("GET", "/hello?token=meanwhile").body.startswith(b"meanwhile ")
        # No file can be had for a body, and that is the fault of neither side.
        assert served[0].request("POST", "/echo", body=b"body").status == 503
        for wire in served[1 : 1 + len(waiting) + 8]:
            wire.close()
        for wire in waiting:
            assert wire.receive().body.startswith(b"waiting ")
        server.log.wait_for("accepting connections again")
        with server.connect() as wire:
            answer = wire.request("POST", "/echo", body=b"body")
            assert json.loads(answer.body)["bytes"] == 4
    assert server.log.text.count("cannot accept") == 1, "said once"


def test_workers_without_descriptors_lose_no_connection_between_them(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "2", prefix=LOW_LIMIT)
    with contextlib.ExitStack() as stack:
        # More than both can hold: some wait in the backlog, and others may between the workers.
        wires = [stack.enter_context(server.connect()) for _ in range(150)]
        for number, wire in enumerate(wires):
            wire.send(ask_for(f"/hello?token={number}"))
        server.log.wait_for("cannot accept")
        for number, wire in enumerate(wires):
            answer = wire.receive()
            assert answer.body.startswith(b"%d " % number)
            wire.close()


def answered(wire: Wire) -> bool:
    """Whether something has come for a client that it has not read."""
    readable, _, _ = select.select([wire.socket], [], [], 0)
    return bool(readable)
