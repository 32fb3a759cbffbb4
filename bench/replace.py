"""Print how long a killed worker's replacement takes until it answers, in milliseconds.

One worker, so that nobody else can answer: from SIGKILL to the first byte of the
answer to a request that waits in the backlog.
"""

from __future__ import annotations

import json
import os
import signal
import time
from statistics import median

from peers import OURS, Task
from servers import fetch, running
from sites import FAST_PAGE, HELLO, Site

KILLS = 3
"""Crash back-off makes later deaths in a row wait; that is another figure."""


def measure(site: Site) -> list[float]:
    """Kill the only worker, ask, and return the milliseconds until the answer; fresh servers."""
    waits_ms = []
    for _ in range(KILLS):
        with running(OURS, Task(site)) as server:
            (worker,) = server.workers()
            started_s = time.monotonic()
            os.kill(worker, signal.SIGKILL)
            while True:
                try:
                    answer = fetch(server.port, site.path)
                except ConnectionError:  # accepted by the worker that was just killed
                    continue
                if answer.startswith(b"HTTP/1.1 200"):
                    break
            waits_ms.append((time.monotonic() - started_s) * 1000)
    return waits_ms


def main() -> None:
    """Measure both sites."""
    for site in (HELLO, FAST_PAGE):
        waits_ms = measure(site)
        print(  # noqa: T201
            f"{site.name}: replaced and answering in {median(waits_ms):.1f} ms (median of"
            f" {json.dumps([round(wait, 1) for wait in waits_ms])})"
        )


if __name__ == "__main__":
    main()
