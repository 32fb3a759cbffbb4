"""Connections move from workers that are busy to workers that are not, and nobody waits."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import REQUEST_SLOTS, RunServer
from tests.integration.fleet import Crowd, hold_every_slot, stopped, whoami
from tests.integration.held_request import Gate, HeldRequest
from tests.integration.processes import open_files
from tests.integration.running_server import RunningServer
from tests.integration.wire import Answer, Wire

STAYS = "connections stay with their workers"


@pytest.fixture
def slots(worker_class: str) -> int:
    """How many requests a worker runs at once."""
    return REQUEST_SLOTS[worker_class]


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Close connections when the test ends."""
    with contextlib.ExitStack() as opened:
        yield opened


def assert_still_held(held: list[HeldRequest]) -> None:
    """Check that none of them was answered or broken off."""
    assert not any(request.answer or request.broken for request in held)


def assert_finished(held: list[HeldRequest]) -> None:
    """Check that all were answered as if nothing had been."""
    for request in held:
        answer = request.result()
        assert isinstance(answer, Answer), answer
        assert answer.status == 200, answer


@pytest.mark.parametrize("busy_workers", [1, 3])
def test_clients_of_busy_workers_are_answered_while_the_slow_requests_run(
    run_server: RunServer, gate: Gate, slots: int, stack: contextlib.ExitStack, busy_workers: int
) -> None:
    server = run_server("-w", "4")
    busy = set(sorted(server.workers())[:busy_workers])
    free = server.workers() - busy
    with stopped(server, free):
        crowd = stack.enter_context(Crowd(server, 20))
        assert crowd.pids() <= busy
    held = hold_every_slot(server, gate, of=busy, slots=slots, stack=stack)
    for _ in range(5):
        assert crowd.pids() <= free
        assert_still_held(held)
    gate.release()
    assert_finished(held)
    assert len(crowd.ask()) == 20
    assert STAYS not in server.log.text


def test_a_request_that_finds_all_workers_busy_goes_to_the_first_that_is_free(
    run_server: RunServer, gate: Gate, slots: int, stack: contextlib.ExitStack
) -> None:
    server = run_server("-w", "2")
    first, second = server.workers()
    with stopped(server, {second}):
        crowd = stack.enter_context(Crowd(server, 10))
        assert crowd.pids() == {first}
    other_gate = stack.enter_context(Gate())
    held = hold_every_slot(server, gate, of={first}, slots=slots, stack=stack)
    others = hold_every_slot(server, other_gate, of={second}, slots=slots, stack=stack)
    crowd.send()
    other_gate.release()
    assert {pid for _, pid in crowd.receive()} == {second}
    assert_still_held(held)
    gate.release()
    assert_finished(held + others)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["KILL", "TERM"])
def test_connections_in_the_queue_outlive_the_workers_they_wait_for(
    run_server: RunServer,
    gate: Gate,
    slots: int,
    stack: contextlib.ExitStack,
    number: signal.Signals,
) -> None:
    server = run_server("-w", "2")
    first, second = server.workers()
    with stopped(server, {second}):
        crowd = stack.enter_context(Crowd(server, 10))
        assert crowd.pids() == {first}
    other_gate = stack.enter_context(Gate())
    held = hold_every_slot(server, gate, of={first}, slots=slots, stack=stack)
    hold_every_slot(server, other_gate, of={second}, slots=slots, stack=stack)
    crowd.send()
    os.kill(second, number)
    assert not {pid for _, pid in crowd.receive()} & {first, second}
    assert_still_held(held)
    gate.release()
    other_gate.release()
    assert_finished(held)


def test_connections_in_the_queue_outlive_the_worker_they_came_from(
    run_server: RunServer, gate: Gate, slots: int, stack: contextlib.ExitStack
) -> None:
    server = run_server("-w", "2")
    first, second = server.workers()
    with stopped(server, {second}):
        crowd = stack.enter_context(Crowd(server, 10))
        assert crowd.pids() == {first}
    other_gate = stack.enter_context(Gate())
    hold_every_slot(server, gate, of={first}, slots=slots, stack=stack)
    others = hold_every_slot(server, other_gate, of={second}, slots=slots, stack=stack)
    before = len(sockets_of(first))
    crowd.send()
    server.log.wait_until(lambda: len(sockets_of(first)) == before - 10)
    os.kill(first, signal.SIGKILL)
    assert not {pid for _, pid in crowd.receive()} & {first, second}
    assert_still_held(others)
    other_gate.release()
    assert_finished(others)


def sockets_of(pid: int) -> list[str]:
    """Return the sockets that a worker has open."""
    return [target for target in open_files(pid) if target.startswith("socket:")]


def test_workers_share_clients_that_one_of_them_has_accepted(
    run_server: RunServer, stack: contextlib.ExitStack
) -> None:
    server = run_server("-w", "2")
    workers = server.workers()
    with stopped(server, {max(workers)}):
        crowd = stack.enter_context(Crowd(server, 16))
        assert crowd.pids() == {min(workers)}
    seen: set[int] = set()
    for _ in range(200):
        seen |= crowd.pids()
    assert seen == workers


def test_a_connection_stays_with_its_worker_when_the_setting_says_so(
    run_server: RunServer, gate: Gate, slots: int, stack: contextlib.ExitStack
) -> None:
    server = run_server("-w", "2", "--no-handoff")
    first, second = server.workers()
    with stopped(server, {second}):
        crowd = stack.enter_context(Crowd(server, 5))
        assert crowd.pids() == {first}
    held = hold_every_slot(server, gate, of={first}, slots=slots, stack=stack)
    crowd.send()
    assert [server.whoami()["pid"] for _ in range(20)] == [second] * 20
    assert_still_held(held)
    gate.release()
    assert {pid for _, pid in crowd.receive()} == {first}
    assert STAYS not in server.log.text, "nobody asked for it otherwise"


@pytest.mark.parametrize("bind", ["[::1]:0", "unix"])
def test_a_worker_knows_of_a_client_what_the_one_before_knew(
    run_server: RunServer, gate: Gate, slots: int, stack: contextlib.ExitStack, bind: str
) -> None:
    if bind == "unix":  # as long as the kernel allows, in letters of more than one byte
        directory = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))
        letters = (107 - len(directory) - 1) // 2
        bind = f"unix:{Path(directory) / ('é' * letters)}"
    server = run_server("-w", "2", "--bind", bind)
    first, second = server.workers()
    with stopped(server, {second}):
        client = stack.enter_context(server.connect())
        before = whoami(client)
    assert before.pop("pid") == first
    held = hold_every_slot(server, gate, of={first}, slots=slots, stack=stack)
    after = whoami(client)
    assert after.pop("pid") == second
    assert after == before
    gate.release()
    assert_finished(held)


CHILD = """
import subprocess

def of_child(environ, start_response):
    start_response("200 OK", PLAIN)
    listed = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True)
    return [listed.stdout]

RAW["of-child"] = of_child
"""


def test_the_projects_own_children_inherit_no_connection_that_moved(
    run_server: RunServer, gate: Gate, slots: int, stack: contextlib.ExitStack
) -> None:
    server = launch(run_server, "demo/raw.py", CHILD)
    first, second = server.workers()
    with stopped(server, {second}):
        client = stack.enter_context(server.connect())
        assert whoami(client)["pid"] == first
    held = hold_every_slot(server, gate, of={first}, slots=slots, stack=stack)
    assert whoami(client)["pid"] == second
    assert b"socket:" not in client.request("GET", "/raw/of-child").body
    gate.release()
    assert_finished(held)


def launch(run_server: RunServer, path: str, code: str) -> RunningServer:
    """Start two workers of a project with some more code."""
    server = run_server("-w", "2")
    server.project.append(path, code)
    server.reload()
    server.wait_for_workers(2)
    return server


NO_DESCRIPTORS = """
import os
kept = []

def use_up(environ, start_response):
    try:
        while True:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        start_response("200 OK", PLAIN)
    return [b"%d" % os.getpid()]

def give_back(environ, start_response):
    while kept:
        os.close(kept.pop())
    start_response("200 OK", PLAIN)
    return [b"%d" % os.getpid()]

RAW["use-up"] = use_up
RAW["give-back"] = give_back
"""


def test_a_worker_without_descriptors_leaves_connections_to_others_and_to_itself(
    run_server: RunServer, gate: Gate, slots: int, stack: contextlib.ExitStack
) -> None:
    server = launch(run_server, "demo/raw.py", NO_DESCRIPTORS)
    first, second = server.workers()
    with stopped(server, {second}):
        crowd = stack.enter_context(Crowd(server, 5))
        assert crowd.pids() == {first}
    with stopped(server, {first}):
        starved = stack.enter_context(server.connect())
        assert int(starved.request("GET", "/raw/use-up").body) == second
    held = hold_every_slot(server, gate, of={first}, slots=slots, stack=stack)
    crowd.send()
    server.log.wait_for("no descriptor is left for connections of other workers")
    assert int(starved.request("GET", "/raw/give-back").body) == second
    assert {pid for _, pid in crowd.receive()} == {second}
    assert_still_held(held)
    gate.release()
    assert_finished(held)


NO_SENDMSG = """
import ctypes, platform, struct

number = {"x86_64": 46, "aarch64": 211}[platform.machine()]
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))

class Filter(ctypes.Structure):
    _fields_ = [("steps", ctypes.c_ushort), ("program", ctypes.c_void_p)]

filter = Filter(len(steps), ctypes.addressof(program))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
"""


def test_where_the_system_passes_no_descriptors_everything_stays_and_it_is_said(
    run_server: RunServer, gate: Gate, slots: int, stack: contextlib.ExitStack
) -> None:
    """A filter lets `sendmsg` fail with EPERM, as those of strict containers do."""
    server = launch(run_server, "demo/wsgi.py", NO_SENDMSG)
    first, second = server.workers()
    with stopped(server, {second}):
        crowd = stack.enter_context(Crowd(server, 5))
        assert crowd.pids() == {first}
    for number in range(3):
        held = hold_every_slot(server, gate, of={first}, slots=slots, stack=stack)
        crowd.send()
        server.log.wait_for(f"{STAYS}: the system does not pass descriptors")
        assert server.whoami()["pid"] == second, number
        gate.release()
        assert_finished(held)
        assert {pid for _, pid in crowd.receive()} == {first}
    assert server.log.text.count(STAYS) == 1


def test_a_client_that_leaves_while_it_moves_leaves_nothing_behind(
    run_server: RunServer, gate: Gate, slots: int, stack: contextlib.ExitStack
) -> None:
    server = run_server("-w", "2")
    first, second = server.workers()
    before = {pid: len(sockets_of(pid)) for pid in (first, second)}
    with stopped(server, {second}):
        wires = [server.connect() for _ in range(30)]
        for wire in wires:
            assert whoami(wire)["pid"] == first
    with contextlib.ExitStack() as clients:
        held = hold_every_slot(server, gate, of={first}, slots=slots, stack=clients)
        for number, wire in enumerate(wires):
            wire.send(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
            leave(wire, rudely=number % 2 == 0)
        gate.release()
        assert_finished(held)
    server.log.wait_until(lambda: {pid: len(sockets_of(pid)) for pid in (first, second)} == before)


def leave(wire: Wire, *, rudely: bool) -> None:
    """Close, with an RST or in order."""
    if rudely:
        wire.reset()
    else:
        wire.socket.shutdown(socket.SHUT_WR)
        wire.close()
