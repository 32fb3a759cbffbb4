"""Print the private memory of four workers after 200 requests each, ours and Gunicorn's.

Private memory (smaps_rollup: Private_Clean + Private_Dirty) is what one more worker
costs; pages shared with the forkserver are paid for once.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean

from peers import GUNICORN_SYNC, OURS, Peer, Task
from servers import RunningServer, fetch, open_library, running
from sites import FAST_PAGE

WORKERS = 4
REQUESTS = 200
PAGES = ("/fast/", "/books/", "/", "/api/books/")


def private_bytes(pid: int) -> int:
    """Return the memory that would be free if the process ended."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(
        int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Private_")
    )


def ask_every_worker(server: RunningServer) -> None:
    """Send 200 requests to each worker, over a connection that it has accepted.

    A worker that is idle takes whatever comes, so each is kept busy while the next one
    is looked for.
    """
    clients: dict[int, http.client.HTTPConnection] = {}
    while len(clients) < WORKERS:
        client = http.client.HTTPConnection("127.0.0.1", server.port)
        client.request("GET", "/version/")
        pid = json.load(client.getresponse())["pid"]
        client.request("GET", "/slow/?seconds=1")
        clients.setdefault(pid, client)
    for client in clients.values():
        client.getresponse().read()
        for number in range(REQUESTS):
            client.request("GET", PAGES[number % len(PAGES)])
            client.getresponse().read()


def ask_often(server: RunningServer) -> None:
    """Send as many requests in all; who serves which is the system's choice."""
    for number in range(REQUESTS * WORKERS):
        fetch(server.port, PAGES[number % len(PAGES)])


def measure(peer: Peer, ask: Callable[[RunningServer], None]) -> tuple[float, int, list[int]]:
    """Return the mean per worker, the sum over all processes, and each worker's, in bytes."""
    with running(peer, Task(FAST_PAGE, workers=WORKERS)) as server:
        ask(server)
        workers = [private_bytes(pid) for pid in server.workers()]
        return mean(workers), sum(private_bytes(pid) for pid in server.tree()), workers


def main() -> None:
    """Measure both servers and print their ratio."""
    open_library()
    results = {
        OURS.name: measure(OURS, ask_every_worker),
        GUNICORN_SYNC.name: measure(GUNICORN_SYNC, ask_often),  # it closes every connection
    }
    for name, (per_worker, total, workers) in results.items():
        each = ", ".join(f"{bytes_ / 2**20:.1f}" for bytes_ in workers)
        print(  # noqa: T201
            f"{name}: private memory per worker {per_worker / 2**20:.1f} MiB ({each});"
            f" all processes {total / 2**20:.1f} MiB"
        )
    ratio = results[OURS.name][0] / results[GUNICORN_SYNC.name][0]
    print(f"per worker: {ratio:.0%} of Gunicorn's")  # noqa: T201


if __name__ == "__main__":
    main()
