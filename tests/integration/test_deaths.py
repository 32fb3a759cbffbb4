"""Every process of the server is killed in turn."""

from __future__ import annotations

import contextlib
import os
import re
import signal

import pytest

from tests.integration.conftest import REQUEST_SLOTS, RunServer
from tests.integration.fleet import Crowd, stopped, whoami
from tests.integration.held_request import Gate, HeldRequest
from tests.integration.load_client import LoadClient
from tests.integration.project_copy import ProjectCopy
from tests.integration.wire import Breakage, BrokenAnswer


def test_a_killed_worker_is_replaced_and_only_its_own_requests_are_lost(
    run_server: RunServer, gate: Gate, worker_class: str
) -> None:
    server = run_server("-w", "2")
    workers = server.workers()
    with server.connect() as wire:
        held = HeldRequest(wire, gate)
        with LoadClient(server.address, clients=4, keep_alive=False) as load:
            load.wait_for_answers(20)
            os.kill(held.pid, signal.SIGKILL)
            broken = held.result()
            server.log.wait_until(lambda: len(server.workers() - workers) == 1)
            load.wait_for_answers(50)
            tally = load.stop()
    assert isinstance(broken, BrokenAnswer)
    assert broken.breakage in {Breakage.MISSING, Breakage.RESET}
    # A sync worker had only the held request. One with more slots was serving others beside
    # it: of each client at most the request that was under way.
    its_own = 0 if REQUEST_SLOTS[worker_class] == 1 else 4
    assert tally.lost.total() <= its_own, tally.examples
    assert len(server.wait_for_workers(2) - workers) == 1


def test_the_log_names_what_a_killed_worker_was_doing(run_server: RunServer, gate: Gate) -> None:
    server = run_server("-w", "1")
    with server.connect() as wire:
        held = HeldRequest(wire, gate)
        os.kill(held.pid, signal.SIGKILL)
        told = server.log.wait_for(f"(?m)^.*{held.pid}.*(SIGKILL|signal 9|killed).*$")
        assert "/hold" in told
        assert "GET" in told
    assert server.get("/hello").status == 200


def test_a_view_that_ends_its_process_costs_just_its_worker(run_server: RunServer) -> None:
    server = run_server("-w", "2")
    with pytest.raises(BrokenAnswer):
        server.get("/exit?code=7")
    server.log.wait_for("/exit")
    assert server.get("/hello").status == 200
    server.wait_for_workers(2)


@pytest.mark.parametrize(
    ("path", "view", "dies"),
    [
        ("/hold", "hold", False),
        ("/spin-in-python", "spin_in_python", False),
        ("/spin-in-c", "spin_in_c", True),
        ("/exit?code=7", "leave", True),
        ("/crash", "crash", True),
        ("/sys-exit", "give_up", False),
    ],
    ids=["hangs", "spins", "spins-in-c", "exits", "segfaults", "raises-systemexit"],
)
def test_a_view_that_goes_wrong_costs_the_clients_of_other_workers_nothing(
    run_server: RunServer, gate: Gate, path: str, view: str, dies: bool
) -> None:
    # Every connection stays with its worker, so that it is known whose neighbours these are.
    server = run_server("-w", "2", "--no-handoff", "--timeout", "2", "--graceful-timeout", "1")
    victim, neighbour = server.workers()
    named = re.compile(rf"trouble(\.py\", line \d+, in |\.){view}\b")
    with contextlib.ExitStack() as stack:
        with stopped(server, {neighbour}):
            wire = stack.enter_context(server.connect())
            assert whoami(wire)["pid"] == victim
        with stopped(server, {victim}):
            neighbours = stack.enter_context(Crowd(server, 8))
            assert neighbours.pids() == {neighbour}
        wire.send(f"GET {gate.path if path == '/hold' else path} HTTP/1.1\r\n".encode())
        wire.send(b"Host: localhost\r\n\r\n")

        def is_over() -> bool:
            assert neighbours.pids() == {neighbour}
            told = named.search(server.log.text) is not None
            return told and not (dies and victim in server.workers())

        server.log.wait_until(is_over)
        server.wait_for_workers(2)
        assert neighbours.pids() == {neighbour}
        assert neighbours.none_was_closed()
    assert server.get("/hello").status == 200


def test_a_killed_forkserver_is_replaced_without_a_lost_request(run_server: RunServer) -> None:
    server = run_server("-w", "2")
    forkserver, workers = server.forkserver(), server.workers()
    with LoadClient(server.address, clients=4) as load:
        load.wait_for_answers(20)
        os.kill(forkserver, signal.SIGKILL)
        server.wait_until_gone(workers)  # adopted, drained and replaced
        load.wait_for_answers(50)
        tally = load.stop()
    assert not tally.lost, tally.examples
    server.log.wait_until(lambda: len(server.family()) == 4)
    assert server.forkserver() != forkserver
    assert len(server.workers()) == 2


def test_a_forkserver_killed_again_and_again_never_stops_the_serving(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "1")
    with LoadClient(server.address, clients=2) as load:
        for _ in range(3):
            workers = server.workers()
            os.kill(server.forkserver(), signal.SIGKILL)
            server.wait_until_gone(workers)
            server.log.wait_until(lambda: len(server.family()) == 3)
        load.wait_for_answers(20)
        tally = load.stop()
    assert not tally.lost, tally.examples


@pytest.mark.parametrize("also_forkserver", [False, True], ids=["supervisor", "and-forkserver"])
def test_the_death_of_the_supervisor_leaves_nobody(
    run_server: RunServer, gate: Gate, also_forkserver: bool
) -> None:
    server = run_server("-w", "2")
    family = [process.pid for process in server.family()]
    with server.connect() as wire:
        held = HeldRequest(wire, gate)
        if also_forkserver:
            os.kill(server.forkserver(), signal.SIGKILL)
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
        gate.release()
        held.result()
        server.wait_until_gone(family)
    # Nor does a forkserver that the supervisor was about to start in its last moment.
    server.log.wait_until(lambda: not server.family())


def test_a_stuck_worker_does_not_outlive_the_supervisor_by_more_than_the_grace(
    run_server: RunServer, gate: Gate
) -> None:
    server = run_server("-w", "1", "--graceful-timeout", "1")
    family = [process.pid for process in server.family()]
    with server.connect() as wire:
        held = HeldRequest(wire, gate)
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
        server.wait_until_gone(family)
        assert isinstance(held.result(), BrokenAnswer)


DIES_WHILE_FLAGGED = """
import os
from pathlib import Path


def _die_while_flagged() -> None:
    if Path("die-at-once").exists():
        os._exit(9)


os.register_at_fork(after_in_child=_die_while_flagged)
"""


def test_workers_that_die_at_once_do_not_become_a_fork_storm(
    run_server: RunServer, project: ProjectCopy
) -> None:
    project.append("demo/wsgi.py", DIES_WHILE_FLAGGED)
    server = run_server("-w", "2")
    flag = project.directory / "die-at-once"
    flag.touch()
    os.kill(min(server.workers()), signal.SIGKILL)
    with LoadClient(server.address, clients=2) as load:
        server.log.wait_for("exited with code 9")
        load.wait_for_answers(2000)
        deaths = server.log.text.count("exited with code 9")
        flag.unlink()
        server.wait_for_workers(2)
        tally = load.stop()
    assert not tally.lost, tally.examples
    assert deaths < 20, "hundreds would fit into the time of two thousand requests"
