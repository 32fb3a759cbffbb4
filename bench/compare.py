"""Compare this server with its peers, scenario by scenario.

The servers of a scenario are started together; each has its turn in every round, and is
idle in between, so that a machine that becomes slower does so for all of them. A ratio is
of two samples of the same round.
"""

from __future__ import annotations

import argparse
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from peers import BENCH
from report import page
from results import Result
from samples import LoadFailed
from scenarios import GROUPS, SCENARIOS, Scenario
from servers import environment, open_library, running_all


def measure(scenario: Scenario, *, rounds: int, seconds: int) -> Result:
    """Run one scenario."""
    result = Result(scenario, rounds, seconds)
    with running_all(scenario.peers, scenario.task) as (servers, absent):
        result.absent.update(absent)
        for name, why in absent.items():
            _say(f"{scenario.name}: {name}: {why}")  # the page has only its last line
        result.samples.update({name: [] for name in servers})
        for number in range(rounds):
            if scenario.floor:
                result.floor_us.append(in_process_us(scenario))
            names = list(result.samples)
            # Not always the same one first, and not always after the same neighbour's load.
            for name in names[number % len(names) :] + names[: number % len(names)]:
                _say(f"{scenario.name}: round {number + 1} of {rounds}: {name}")
                try:
                    sample = scenario.load.run(servers[name], scenario.task.site.path, seconds)
                except (LoadFailed, subprocess.CalledProcessError, OSError) as error:
                    result.absent[name] = str(error) or repr(error)
                    del result.samples[name]
                else:
                    result.samples[name].append(sample)
    return result


def in_process_us(scenario: Scenario) -> float:
    """Return the CPU time of one call of the application, in microseconds.

    Measured beside a process that keeps another core busy, as wrk does while a server is
    measured: where cores share a cache or are two threads of one core, the same work
    takes up to half as long again then, and that is no cost of the server.
    """
    site = scenario.task.site
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            output = subprocess.run(  # noqa: S603 - ours
                [sys.executable, BENCH / "in_process.py", site.wsgi, site.path],
                check=True,
                capture_output=True,
                text=True,
                env=environment(scenario.task),
            ).stdout
        finally:
            neighbour.kill()
    return float(output)


def publish(result: Result, directory: Path) -> None:
    """Write a scenario's page and its plot."""
    from plot import draw  # its library is only needed here

    name = result.scenario.name
    draw(result, directory / f"{name}.svg")
    (directory / f"{name}.md").write_text(page(result, plot=f"{name}.svg"))


def chosen(names: list[str], servers: list[str]) -> list[Scenario]:
    """Return the scenarios of these names and groups, each once, in the table's order.

    Args:
        names: Of scenarios and groups.
        servers: Parts of names of servers, to which the scenarios are reduced; the one that
            others are compared with stays. None: all.
    """
    wanted = {name for given in names for name in GROUPS.get(given, (given,))}
    return [
        replace(
            scenario,
            peers=tuple(
                peer
                for peer in scenario.peers
                if not servers
                or peer is scenario.peers[0]
                or any(part.lower() in peer.name.lower() for part in servers)
            ),
        )
        for scenario in SCENARIOS
        if scenario.name in wanted
    ]


def options() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    choices = [*GROUPS, *GROUPS["all"]]
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(choices)}; default: all"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1, help="of load per server and round")
    parser.add_argument(
        "--server", action="append", default=[], help="only servers with this in their name"
    )
    parser.add_argument("--write", type=Path, help="a directory for a page and a plot of each")
    found = parser.parse_args()
    for name in found.scenarios:
        if name not in choices:
            parser.error(f"{name!r} is none of {', '.join(choices)}")
    if found.write and find_spec("matplotlib") is None:
        parser.error("--write draws plots, which takes matplotlib: pip install -e '.[bench]'")
    return found


def main() -> None:
    """Run the scenarios; print each report when it is there, and write it where told."""
    asked = options()
    # 1 000 idle connections take more descriptors than many systems allow by default.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536), most))
    # So that the servers, which have sessions of their own, end with this program.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    open_library()
    for scenario in chosen(asked.scenarios or ["all"], asked.server):
        result = measure(scenario, rounds=asked.rounds, seconds=asked.seconds)
        print(page(result), flush=True)  # noqa: T201
        if asked.write and result.samples:
            publish(result, asked.write)


def _say(text: str) -> None:
    """Say what goes on, to people who watch."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
