"""Requests held within a view, until the test lets them go: no sleeping, on either side."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from types import TracebackType
from typing import Any, Self

from tests.integration.running_server import RunningServer
from tests.integration.wire import Answer, BrokenAnswer, Wire

GATE_S = 30.0
MOST_HELD = 64
"""More than three workers of any class run at once."""


class Gate:
    """Where `/hold` waits: says who came in, and lets them go."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(GATE_S)
        self._held: list[socket.socket] = []

    @property
    def path(self) -> str:
        """The path of a request that is held here."""
        return self.path_before("/")

    def path_before(self, then: str) -> str:
        """Return the path of a request that is held here before it is one for `then`."""
        return f"/hold?gate={self._listener.getsockname()[1]}&then={then}"

    def wait_entered(self) -> int:
        """Block until one more request is held; return its worker's pid."""
        held, _ = self._listener.accept()
        held.settimeout(GATE_S)
        self._held.append(held)
        with held.makefile("rb") as lines:
            return int(lines.readline())

    def release(self) -> None:
        """Let every request go that is held."""
        while self._held:
            with self._held.pop() as held:
                held.sendall(b"g")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for held in self._held:
            held.close()
        self._listener.close()


class HeldRequest:
    """A request that waits at a gate, and its answer when it comes."""

    def __init__(self, wire: Wire, gate: Gate, then: str = "/") -> None:
        self.answer: Answer | None = None
        self.broken: BrokenAnswer | None = None
        self._wire = wire
        self._thread = threading.Thread(
            target=self._ask, args=(gate.path_before(then),), daemon=True
        )
        self._thread.start()
        self.pid = gate.wait_entered()

    def result(self) -> Answer | BrokenAnswer:
        """Block until it was answered or broken off."""
        self._thread.join(40)
        assert not self._thread.is_alive(), "a held request never ended"
        outcome = self.answer or self.broken
        assert outcome is not None
        return outcome

    def _ask(self, path: str) -> None:
        try:
            self.answer = self._wire.request("GET", path)
        except BrokenAnswer as broken:
            self.broken = broken


def ask_every_worker(server: RunningServer, path: str, workers: int) -> dict[int, Any]:
    """Return what each of `workers` workers answers to `path`, by pid, read as JSON.

    One request after the other would all go to whichever worker is quickest. So each is
    held until all workers have one; a worker with several slots may take that many.
    """
    with Gate() as gate, contextlib.ExitStack() as stack:
        held: list[HeldRequest] = []
        while len({request.pid for request in held}) < workers and len(held) < MOST_HELD:
            held.append(HeldRequest(stack.enter_context(server.connect()), gate, path))
        gate.release()
        answers = [(request.pid, request.result()) for request in held]
    assert len({pid for pid, _ in answers}) == workers, answers
    decoded = {}
    for pid, answer in answers:
        assert isinstance(answer, Answer), answer
        assert answer.status == 200, answer
        decoded[pid] = json.loads(answer.body)
    return decoded
