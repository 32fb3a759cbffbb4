"""Compare this server with its peers and with the application called in-process.

Rounds are interleaved: every server has its turn in every round, so that a machine
that becomes slower does so for all of them. Reported is the median over the rounds,
with the lowest and highest of the ratio to this server.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from servers import (
    BENCH,
    FAST_PAGE,
    GUNICORN_GTHREAD,
    GUNICORN_SYNC,
    HELLO,
    OURS,
    ROOT,
    Peer,
    Site,
    running,
)

PEERS = (OURS, GUNICORN_SYNC, GUNICORN_GTHREAD)
CONNECTIONS = 16


@dataclass(frozen=True)
class Sample:
    """One round of one server. CPU is of the server's whole process tree."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    failed: int


def measure(peer: Peer, site: Site, *, keep_alive: bool, seconds: int) -> Sample:
    """Load one server with wrk and return what it did."""
    with running(peer, site) as server:
        url = server.url(site.path)
        _wrk(url, keep_alive=keep_alive, seconds=1)
        before_s = server.cpu_s()
        output = _wrk(url, keep_alive=keep_alive, seconds=seconds)
        cpu_s = server.cpu_s() - before_s
    requests = int(_find(r"(\d+) requests in", output))
    failed = sum(
        int(number) for number in re.findall(r"(?:connect|read|write|timeout) (\d+)", output)
    )
    failed += int(_find(r"Non-2xx or 3xx responses: (\d+)", output) or 0)
    return Sample(
        requests_per_s=float(_find(r"Requests/sec:\s+([\d.]+)", output)),
        p50_ms=_milliseconds(output, 50),
        p99_ms=_milliseconds(output, 99),
        cpu_us=cpu_s / max(1, requests) * 1e6,
        failed=failed,
    )


def _wrk(url: str, *, keep_alive: bool, seconds: int) -> str:
    header = [] if keep_alive else ["-H", "Connection: close"]
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "--latency", *header, url]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match.group(1) if match else ""


def _milliseconds(output: str, percentile: int) -> float:
    match = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s|m)\s", output)
    if match is None:
        raise SystemExit(f"wrk says nothing of the {percentile}th percentile:\n{output}")
    return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[match[2]]


def in_process_us(site: Site) -> float:
    """Return the CPU time of one call of the application, in microseconds.

    Measured beside a process that keeps another core busy, as wrk does while a server is
    measured: where cores share a cache or are two threads of one core, the same work
    takes up to half as long again then, and that is no cost of the server.
    """
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            output = subprocess.run(  # noqa: S603 - ours
                [sys.executable, BENCH / "in_process.py", site.wsgi, site.path],
                check=True,
                capture_output=True,
                text=True,
                env={"DJANGO_SETTINGS_MODULE": site.settings, "PYTHONPATH": f"{BENCH}:{ROOT}"},
            ).stdout
        finally:
            neighbour.kill()
    return float(output)


def compare(site: Site, *, keep_alive: bool, rounds: int, seconds: int) -> list[str]:
    """Return a Markdown table for one page, with or without keep-alive."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    floor_us = []
    for _ in range(rounds):
        floor_us.append(in_process_us(site))
        for peer in PEERS:
            samples[peer.name].append(measure(peer, site, keep_alive=keep_alive, seconds=seconds))
    ours = samples[OURS.name]
    lines = [
        f"### {site.name}, {'keep-alive' if keep_alive else 'a connection per request'}",
        "",
        "| Server | requests/s | p50 ms | p99 ms | CPU µs/request | over in-process µs | failed"
        " | ours is … times as fast (lowest-highest) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    floor = median(floor_us)
    for name, rows in samples.items():
        ratios = [
            mine.requests_per_s / row.requests_per_s for mine, row in zip(ours, rows, strict=True)
        ]
        cpu_us = median(row.cpu_us for row in rows)
        lines.append(
            f"| {name} | {median(row.requests_per_s for row in rows):,.0f}"
            f" | {median(row.p50_ms for row in rows):.2f}"
            f" | {median(row.p99_ms for row in rows):.2f}"
            f" | {cpu_us:.1f} | {cpu_us - floor:.1f} | {sum(row.failed for row in rows)}"
            f" | {median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |"
        )
    lines.append(f"| the application, in-process | | | | {floor:.1f} | 0.0 | | |")
    return [*lines, ""]


def main() -> None:
    """Run every comparison; print the report, and write it where `--write` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of load per server and round")
    parser.add_argument("--write", type=Path, help="a Markdown file for the report")
    options = parser.parse_args()
    lines = [
        "# One worker against its peers",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, CPython {platform.python_version()},"
        f" Django {version('django')}, Gunicorn {version('gunicorn')}, Linux {platform.release()},"
        f" 1 worker, wrk with {CONNECTIONS} connections on the same machine,"
        " access log to /dev/null;"
        f" median of {options.rounds} interleaved rounds of {options.seconds} s.",
        "",
    ]
    for site in (HELLO, FAST_PAGE):
        for keep_alive in (True, False):
            lines += compare(
                site, keep_alive=keep_alive, rounds=options.rounds, seconds=options.seconds
            )
    report = "\n".join(lines)
    print(report)  # noqa: T201
    if options.write:
        options.write.write_text(report)


if __name__ == "__main__":
    main()
