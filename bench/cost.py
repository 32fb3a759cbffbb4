"""Print what one keep-alive request costs in system calls and Python-visible calls.

System calls are counted by strace over wrk's load with one connection and with sixteen.
A traced worker is several times slower, so what it does by the clock (the stand-in looks
200 times a second, the log is written 50 times) weighs as much heavier.

Python-visible calls are what `sys.setprofile` reports in a worker, C functions included,
over requests of one connection to hello, access log on; the application's own one is taken
off, its call of `start_response` is not.
"""

from __future__ import annotations

import http.client
import re
import subprocess
import tempfile
from pathlib import Path

from peers import OURS, Task
from servers import running
from sites import COUNTED, FAST_PAGE, HELLO, Site

SECONDS = 2
REQUESTS = 2000


def system_calls(site: Site, connections: int) -> tuple[float, str]:
    """Return the system calls per request of the worker, and the most frequent ones."""
    with running(OURS, Task(site)) as server, tempfile.NamedTemporaryFile() as summary:
        (worker,) = server.workers()
        tracer = subprocess.Popen(  # noqa: S603
            ["strace", "-f", "-c", "-o", summary.name, "-p", str(worker)],  # noqa: S607
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tracer.stderr is not None  # noqa: S101
        tracer.stderr.readline()  # "attached"
        output = subprocess.run(  # noqa: S603
            ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}", server.url(site.path)],  # noqa: S607
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        tracer.terminate()
        tracer.wait()
        requests = int(re.search(r"(\d+) requests in", output).group(1))  # type: ignore[union-attr]
        counts = _counts(Path(summary.name).read_text())
    shown = ", ".join(
        f"{name} {count / requests:.2f}" for name, count in counts if count > requests / 20
    )
    return sum(count for _, count in counts) / requests, shown


def _counts(summary: str) -> list[tuple[str, int]]:
    rows = re.findall(
        r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", summary, re.MULTILINE
    )
    return [(name, int(count)) for count, name in rows if name != "total"]


def python_calls() -> float:
    """Return the calls per request of the worker outside the application."""
    with running(OURS, Task(COUNTED)) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port)

        def get(path: str) -> bytes:
            client.request("GET", path, headers={"User-Agent": "bench", "Accept": "*/*"})
            return client.getresponse().read()

        get("/begin")
        for _ in range(REQUESTS):
            get("/")
        # The tail of /begin and the head of /end make one request together.
        return int(get("/end")) / (REQUESTS + 1) - 1


def main() -> None:
    """Print the system calls of both sites, and the Python-visible calls of hello."""
    for site in (HELLO, FAST_PAGE):
        for connections in (1, 16):
            calls, shown = system_calls(site, connections)
            print(  # noqa: T201
                f"{site.name}, connections: {connections}:"
                f" {calls:.2f} system calls per keep-alive request ({shown})"
            )

    print(f"hello: {python_calls():.1f} Python-visible calls outside the application")  # noqa: T201


if __name__ == "__main__":
    main()
