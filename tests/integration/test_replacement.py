"""Workers that are replaced while they live: MAX_REQUESTS and TIMEOUT."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import RunServer
from tests.integration.held_request import Gate, HeldRequest
from tests.integration.load_client import LoadClient
from tests.integration.wire import Answer, BrokenAnswer


@pytest.mark.parametrize("keep_alive", [True, False], ids=["keep-alive", "close"])
def test_workers_that_reached_max_requests_are_replaced_without_a_lost_request(
    run_server: RunServer, keep_alive: bool
) -> None:
    server = run_server("-w", "2", "--max-requests", "100", "--max-requests-jitter", "20")
    with LoadClient(server.address, clients=4, keep_alive=keep_alive) as load:
        load.wait_for_answers(1000)
        tally = load.stop()
    assert not tally.lost, tally.examples
    assert len(tally.pids) > 4
    server.wait_for_workers(2)


def test_all_workers_reaching_max_requests_together_are_replaced_one_at_a_time(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "3", "--max-requests", "30")
    strengths: set[int] = set()
    with LoadClient(server.address, clients=6) as load:
        for _ in range(100):
            load.wait_for_answers(10)
            strengths.add(len(server.steady_workers()))
        tally = load.stop()
    assert not tally.lost, tally.examples
    assert min(strengths) >= 3, "a worker left before its replacement was there"
    assert max(strengths) <= 4, "two were replaced at a time"
    assert len(tally.pids) > 6


def test_a_request_stuck_in_python_costs_its_worker_or_its_greenlet_and_the_log_tells_all(
    worker_class: str, run_server: RunServer, gate: Gate
) -> None:
    server = run_server("-w", "1", "--timeout", "1", "--graceful-timeout", "1")
    with server.connect() as wire:
        held = HeldRequest(wire, gate)
        told = server.log.wait_for(r"(?m)^.*(?i:timeout|longer than|stuck).*/hold.*$")
        outcome = held.result()
    assert "GET" in told
    assert "demo.trouble.hold" in told, "the view is not named"
    assert f"{held.pid}" in told
    server.log.wait_for(r"trouble\.py.*hold")
    assert not isinstance(outcome, Answer) or outcome.status == 503
    if worker_class == "gevent":  # an exception has ended it, where it waited
        assert server.workers() == {held.pid}
    else:
        server.wait_until_gone([held.pid])
    assert server.get("/hello").status == 200
    assert len(server.wait_for_workers(1)) == 1


@pytest.mark.parametrize(
    ("path", "view"),
    [("/spin-in-python", "spin_in_python"), ("/spin-in-c", "spin_in_c")],
    ids=["python", "c-holding-the-gil"],
)
def test_a_worker_that_spins_is_replaced_and_its_stack_is_shown(
    run_server: RunServer, path: str, view: str
) -> None:
    server = run_server("-w", "2", "--timeout", "1", "--graceful-timeout", "1")
    workers = server.workers()
    outcome: Answer | BrokenAnswer
    with server.connect() as wire:
        try:
            outcome = wire.request("GET", path)
        except BrokenAnswer as broken:
            outcome = broken
    assert not isinstance(outcome, Answer) or outcome.status == 503
    told = server.log.wait_for(rf"(?m)^.*(?i:timeout|longer than|stuck).*{path}.*$")
    assert "GET" in told
    assert f"demo.trouble.{view}" in told, "the view is not named"
    server.log.wait_for(rf"trouble\.py.*{view}")
    server.log.wait_until(lambda: len(server.workers() - workers) == 1)
    server.log.wait_until(lambda: len(server.workers()) == 2)
    assert server.get("/hello").status == 200


def test_the_other_worker_serves_while_one_is_stuck(run_server: RunServer, gate: Gate) -> None:
    server = run_server("-w", "2")
    with server.connect() as wire:
        held = HeldRequest(wire, gate)
        with LoadClient(server.address, clients=3, keep_alive=False) as load:
            load.wait_for_answers(100)
            tally = load.stop()
        gate.release()
        outcome = held.result()
    assert not tally.lost, tally.examples
    assert isinstance(outcome, Answer)


def test_a_response_that_streams_for_longer_than_the_timeout_is_cut_off(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "1", "--timeout", "1", "--graceful-timeout", "1")
    with server.connect() as wire:
        wire.send(b"GET /raw/endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(BrokenAnswer):
            wire.receive()
    server.log.wait_for("/raw/endless")
    assert server.get("/hello").status == 200


PIDS_V1 = Path("/sys/fs/cgroup/pids")
PIDS_V2 = Path("/sys/fs/cgroup")


class PidsGroup:
    """A cgroup that limits the number of processes of whoever is put into it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._group = root / f"wsgiserve-test-{os.getpid()}"
        self._group.mkdir()
        if not (self._group / "pids.max").exists():
            self._group.rmdir()
            raise OSError("no pids controller")
        self._pids: list[int] = []

    def hold(self, pid: int) -> None:
        """Put `pid` in: it and its later children count."""
        (self._group / "cgroup.procs").write_text(str(pid))
        self._pids.append(pid)

    def limit(self, count: str) -> None:
        """Set how many there may be; "max" for any number."""
        (self._group / "pids.max").write_text(count)

    def close(self) -> None:
        """Send everybody back, and remove it."""
        for pid in (self._group / "cgroup.procs").read_text().split():
            (self._root / "cgroup.procs").write_text(pid)
        self._group.rmdir()


@pytest.fixture
def pids_group() -> Iterator[PidsGroup]:
    root = PIDS_V1 if PIDS_V1.is_dir() else PIDS_V2
    try:
        group = PidsGroup(root)
    except OSError as error:
        pytest.skip(f"no process limit can be set: {error}")
    yield group
    group.limit("max")
    group.close()


def test_a_fork_that_fails_is_tried_again_and_the_others_go_on(
    run_server: RunServer, pids_group: PidsGroup
) -> None:
    server = run_server("-w", "2")
    pids_group.hold(server.forkserver())
    pids_group.limit("1")
    victim = min(server.workers())
    os.kill(victim, 9)
    server.log.wait_for("(?i)(EAGAIN|resource temporarily unavailable|errno 11)")
    with LoadClient(server.address, clients=2) as load:
        load.wait_for_answers(20)
        tally = load.stop()
    assert not tally.lost, tally.examples
    pids_group.limit("max")
    server.wait_for_workers(2)
