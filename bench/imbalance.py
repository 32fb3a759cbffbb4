"""Two workers, all clients accepted by one of them: does the other stay idle?"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from open_loop import Client, Crowd
from samples import FAILED, RATE, Column, LoadFailed, Sample
from servers import process_cpu_s

if TYPE_CHECKING:
    from servers import RunningServer

CONNECT_S = 0.3
SETTLE_S = 1.0
BUSIER = Column("busier_ms", "busier worker's CPU ms", more_is_better=False)
IDLER = Column("idler_ms", "other worker's CPU ms")
SHARE = Column("share", "other/busier %")


@dataclass(frozen=True, slots=True)
class Imbalance:
    """Keep-alive clients that never rest, connected while one of two workers was stopped."""

    clients: int = 16

    @property
    def columns(self) -> tuple[Column, ...]:
        """The CPU time of both workers, beginning a second after the second one goes on."""
        return (BUSIER, IDLER, SHARE, RATE, FAILED)

    @property
    def judged_by(self) -> Column:
        """How much of the busier worker's CPU time the other one has."""
        return SHARE

    @property
    def description(self) -> str:
        """How it comes about."""
        return (
            f"{self.clients} keep-alive clients connect while one of two workers is stopped"
            " (SIGSTOP), then it goes on; CPU time of both"
            f" from {SETTLE_S:g} s after that"
        )

    def run(self, server: RunningServer, path: str, seconds: int) -> Sample:
        """Connect, let the other worker go on, load, compare.

        Raises:
            LoadFailed: There are not two workers, or not all clients came to the one.
        """
        workers = server.workers()
        if len(workers) != 2:
            raise LoadFailed(f"{len(workers)} processes without children, not two workers")
        crowd = Crowd([Client(server.port, path) for _ in range(self.clients)])
        try:
            self._connect(crowd, stopped=workers[1])
            crowd.drive(SETTLE_S)
            before_s = [process_cpu_s(pid) for pid in workers]
            answered = sum(len(client.latencies_s) for client in crowd.clients)
            crowd.drive(seconds)
            answered = sum(len(client.latencies_s) for client in crowd.clients) - answered
        finally:
            crowd.close()
        cpu_ms = [
            1000 * (process_cpu_s(pid) - before)
            for pid, before in zip(workers, before_s, strict=True)
        ]
        return {
            "busier_ms": max(cpu_ms),
            "idler_ms": min(cpu_ms),
            "share": 100 * min(cpu_ms) / max(1.0, *cpu_ms),
            "rate": answered / seconds,
            "failed": sum(client.failed for client in crowd.clients),
        }

    def _connect(self, crowd: Crowd, *, stopped: int) -> None:
        """Have every client answered on a connection of its own by the worker that runs."""
        os.kill(stopped, signal.SIGSTOP)
        try:
            crowd.drive(CONNECT_S)
        finally:
            os.kill(stopped, signal.SIGCONT)
        if any(not client.latencies_s for client in crowd.clients):
            raise LoadFailed(
                "each worker has a listening socket of its own: the system gave some clients to"
                " the stopped one"
            )
        if any(client.connections > 1 for client in crowd.clients):
            raise LoadFailed("closes connections, so none is anybody's for long")
