"""Fast requests beside slow ones: what do those wait who ask for little?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from open_loop import Client, Crowd, percentile
from samples import CPU, FAILED, P50, P99, Column, Sample

if TYPE_CHECKING:
    from servers import RunningServer

WORST = Column("worst_ms", "longest ms", 1, more_is_better=False)
P99_SENT = Column("p99_sent_ms", "p99 ms from sending", 2, more_is_better=False)
SLOW = Column("slow", "slow ones answered")
CONNECTIONS = Column("connections", "connections made")


@dataclass(frozen=True, slots=True)
class Mixed:
    """Clients that ask at a fixed rate, beside clients that are always in a slow request."""

    slow_clients: int
    slow_ms: int
    fast_clients: int = 20
    fast_per_s: float = 50.0
    """Requests of each fast client per second."""
    times: int = 2
    """How many times as long as other loads: a slow request may take a second."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Latency of the fast requests; the rest is of both kinds."""
        return (P50, P99, WORST, P99_SENT, SLOW, CPU, CONNECTIONS, FAILED)

    @property
    def judged_by(self) -> Column:
        """The fast requests' 99th percentile."""
        return P99

    @property
    def description(self) -> str:
        """Who asks for what; the latencies are of the fast ones."""
        slow = "client" if self.slow_clients == 1 else "clients"
        return (
            f"{self.fast_clients} keep-alive clients at {self.fast_per_s:g} fast requests/s each,"
            f" beside {self.slow_clients} {slow} always in a request of {self.slow_ms} ms;"
            " latency of the fast requests, from when each was due: where a connection's"
            " requests come faster than they are answered, they wait for each other, and the"
            " longer it lasts the longer"
        )

    def run(self, server: RunningServer, path: str, seconds: int) -> Sample:
        """Drive the clients for `times` as many seconds."""
        interval_s = 1 / self.fast_per_s
        fast = [
            Client(server.port, path, interval_s, phase_s=number * interval_s / self.fast_clients)
            for number in range(self.fast_clients)
        ]
        slow = [Client(server.port, f"/wait/{self.slow_ms}") for _ in range(self.slow_clients)]
        crowd = Crowd([*fast, *slow])
        before_s = server.cpu_s()
        crowd.drive(self.times * seconds)
        cpu_s = server.cpu_s() - before_s
        crowd.close()
        latencies_ms = [1000 * latency for client in fast for latency in client.latencies_s]
        sent_ms = [1000 * latency for client in fast for latency in client.answers_s]
        answered_slow = sum(len(client.latencies_s) for client in slow)
        return {
            "p50_ms": percentile(latencies_ms, 50),
            "p99_ms": percentile(latencies_ms, 99),
            "worst_ms": percentile(latencies_ms, 100),
            "p99_sent_ms": percentile(sent_ms, 99),
            "slow": answered_slow,
            "cpu_us": cpu_s / max(1, len(latencies_ms) + answered_slow) * 1e6,
            "connections": sum(client.connections for client in crowd.clients),
            "failed": sum(client.failed for client in crowd.clients),
        }
