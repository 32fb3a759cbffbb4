"""Which worker has which connection: stopped processes, taken slots, crowds of clients."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Iterable, Iterator
from typing import Any

from tests.integration.held_request import Gate, HeldRequest
from tests.integration.processes import read_process
from tests.integration.running_server import RunningServer
from tests.integration.wire import Wire


@contextlib.contextmanager
def stopped(server: RunningServer, pids: Iterable[int]) -> Iterator[None]:
    """Let workers stand still (SIGSTOP): what is begun meanwhile belongs to the others."""
    standing = list(pids)
    try:
        for pid in standing:
            os.kill(pid, signal.SIGSTOP)
        for pid in standing:
            server.log.wait_until(lambda pid=pid: _state(pid) == "T")  # type: ignore[misc]
        yield
    finally:
        for pid in standing:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    process = read_process(pid)
    return "" if process is None else process.state


class Crowd:
    """Keep-alive clients that all ask at once, and each see exactly what it gets."""

    def __init__(self, server: RunningServer, clients: int) -> None:
        """Connect."""
        self.wires = [server.connect() for _ in range(clients)]
        self._round = 0

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for wire in self.wires:
            wire.close()

    def send(self) -> None:
        """Send a request over every connection."""
        self._round += 1
        for number, wire in enumerate(self.wires):
            token = f"{self._round}-{number}"
            wire.send(f"GET /hello?token={token} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def receive(self) -> list[tuple[str, int]]:
        """Return version and pid of every answer, each of which has to be right and kept alive.

        Raises:
            BrokenAnswer: A connection was closed, or nothing came.
        """
        found = []
        for number, wire in enumerate(self.wires):
            answer = wire.receive()
            assert answer.status == 200, answer
            assert answer.keeps_alive, answer
            token, version, pid = answer.body.decode().split()
            assert token == f"{self._round}-{number}"
            found.append((version, int(pid)))
        return found

    def ask(self) -> list[tuple[str, int]]:
        """Send and receive."""
        self.send()
        return self.receive()

    def none_was_closed(self) -> bool:
        """Whether every connection is open and silent, as far as its client can tell now."""
        poller = select.poll()
        for wire in self.wires:
            poller.register(wire.socket, select.POLLIN | select.POLLRDHUP)
        return not poller.poll(0)

    def pids(self) -> set[int]:
        """Ask; return the workers that answered."""
        return {pid for _, pid in self.ask()}


def hold_every_slot(
    server: RunningServer,
    gate: Gate,
    *,
    of: set[int],
    slots: int,
    stack: contextlib.ExitStack,
) -> list[HeldRequest]:
    """Return the requests that hold all the workers `of`; the others are stopped meanwhile."""
    with stopped(server, server.workers() - of):
        held = [
            HeldRequest(stack.enter_context(server.connect()), gate) for _ in range(slots * len(of))
        ]
    assert {request.pid for request in held} == of
    return held


def whoami(wire: Wire) -> dict[str, Any]:
    """Return what the worker that answers knows of itself and of this client."""
    answer = wire.request("GET", "/whoami")
    assert answer.status == 200, answer
    answered: dict[str, Any] = json.loads(answer.body)
    return answered
