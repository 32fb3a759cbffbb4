"""Every test of this ring runs under the transition table, most with both pollers."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from django_wsgiserve.workers import loop as loop_module
from django_wsgiserve.workers import traffic as traffic_module
from django_wsgiserve.workers.poller import EpollPoller, SelectorsPoller
from tests.workers.served import CheckedConnection, Place, Served, configured, hello, listen
from tests.workers.worker_process import Fork, Piped, WorkerProcess

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


@pytest.fixture(autouse=True)
def checked_transitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection of the test be one that checks its changes of state."""
    monkeypatch.setattr(traffic_module, "Connection", CheckedConnection)


@pytest.fixture(params=[EpollPoller, SelectorsPoller], ids=["epoll", "selectors"])
def poller(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> type[EpollPoller | SelectorsPoller]:
    """Run the test with each poller behind the reactor."""
    chosen: type[EpollPoller | SelectorsPoller] = request.param
    monkeypatch.setattr(loop_module, "new_poller", chosen)
    return chosen


@pytest.fixture(params=[1, 4], ids=["sync", "threads"])
def request_slots(request: pytest.FixtureRequest) -> int:
    """Run the test with one request slot and with several."""
    slots: int = request.param
    return slots


@pytest.fixture
def build(poller: object, request_slots: int) -> Iterator[Callable[..., Served]]:
    """Return a function that makes a reactor; all of them are ended after the test."""
    made: list[Served] = []

    def make(
        application: WSGIApplication = hello,
        *,
        listeners: int = 1,
        place: Place | None = None,
        last_request: int = 0,
        **settings: Any,
    ) -> Served:
        served = Served(
            application,
            configured(**settings),
            tuple(listen() for _ in range(listeners)),
            place or Place(request_slots=request_slots, last_request=last_request),
        )
        made.append(served)
        return served

    yield make
    for served in made:
        served.close()


@pytest.fixture
def serve(build: Callable[..., Served]) -> Callable[..., Served]:
    """Return a function that starts a reactor in a thread, accepting."""

    def start(application: WSGIApplication = hello, **settings: Any) -> Served:
        return build(application, **settings).start()

    return start


def open_descriptors() -> dict[int, str]:
    """Return what this process has open, by number; what is garbage is closed first."""
    gc.collect()
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except FileNotFoundError:  # the one that lists the directory
            continue
    return found


def left_open(before: dict[int, str]) -> dict[int, str]:
    """Return what is open now and was not before.

    Not the other way round: what an earlier test has left to the collector may close
    in the middle of this one.
    """
    return dict(set(open_descriptors().items()) - set(before.items()))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return a non-blocking server end and a client end with a deadline."""
    server, client = socket.socketpair()
    server.setblocking(False)
    client.settimeout(20)
    yield server, client
    server.close()
    client.close()


@pytest.fixture
def fork(tmp_path: Path, poller: object) -> Iterator[Fork]:
    """Return a function that starts a worker; all of them are ended after the test."""
    made: list[WorkerProcess] = []

    def start(**values: Any) -> WorkerProcess:
        process = WorkerProcess(tmp_path, **values)
        made.append(process)
        return process.start()

    yield start
    for process in made:
        process.close()


@pytest.fixture
def piped() -> Iterator[Piped]:
    made = Piped()
    yield made
    made.close()
