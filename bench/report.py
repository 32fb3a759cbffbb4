"""A scenario's result as a page of Markdown."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from machine import machine, today, versions
from samples import CPU

if TYPE_CHECKING:
    from results import Result


def page(result: Result, *, plot: str = "") -> str:
    """Return a page: what was done on what, the table, what to know of its rows.

    Args:
        result: With the samples of at least one server.
        plot: The plot's file name; empty if there is none.
    """
    scenario = result.scenario
    lines = [f"# {scenario.title}", "", _setting(result), ""]
    lines += [*table(result), ""]
    if plot:
        lines += [f"![{scenario.title}]({plot})", ""]
    remarks = [
        f"- {peer.name}: {peer.remark}."
        for peer in scenario.peers
        if peer.remark and peer.name in result.samples
    ]
    remarks += [f"- {name} is left out: {_one_line(why)}." for name, why in result.absent.items()]
    if remarks:
        lines += [*remarks, ""]
    proxy = bool(scenario.task.proxy)
    lines += [
        f"{today()}; {machine()}; {versions(scenario.peers, nginx=proxy)}.",
        f"`python bench/compare.py {scenario.name} --rounds {result.rounds}"
        f" --seconds {result.seconds}`",
        "",
    ]
    return "\n".join(lines)


def _setting(result: Result) -> str:
    task = result.scenario.task
    workers = "1 worker" if task.workers == 1 else f"{task.workers} workers"
    at_once = "one request" if task.threads == 1 else f"{task.threads} requests"
    proxy = {
        "": "",
        "keep-alive": ", behind nginx at a Unix socket, which keeps its connections",
        "close": ", behind nginx at a Unix socket, a connection for each request",
    }[task.proxy]
    return (
        f"{workers}, {at_once} at once in each{proxy}. {result.scenario.load.description}."
        f" Load and servers on the same machine. {result.rounds} interleaved rounds of"
        f" {result.seconds} s: the median, and of the ratio also the lowest and highest."
    )


def table(result: Result) -> list[str]:
    """Return the rows of the table, those of servers in the scenario's order."""
    load = result.scenario.load
    over = bool(result.floor_us)
    heads = ["Server", *(column.head for column in load.columns)]
    heads += ["over in-process µs"] if over else []
    heads.append(f"{result.scenario.peers[0].name} is … times as good in {load.judged_by.head}")
    lines = [_row(heads), _row(["---", *["---:"] * (len(heads) - 1)])]
    floor_us = median(result.floor_us) if over else 0.0
    for peer in result.scenario.peers:
        if peer.name not in result.samples:
            continue
        cells = [peer.name]
        cells += [
            f"{result.figure(peer.name, column):,.{column.digits}f}" for column in load.columns
        ]
        if over:
            cells.append(f"{result.figure(peer.name, CPU) - floor_us:,.1f}")
        lines.append(_row([*cells, _ratio(result.ratios(peer.name))]))
    if over:
        cells = [f"{floor_us:,.1f}" if column is CPU else "" for column in load.columns]
        lines.append(_row(["the application, in-process", *cells, "0.0", ""]))
    return lines


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ratio(ratios: list[float]) -> str:
    if not ratios:
        return "-"
    return f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def _one_line(text: str) -> str:
    """Return the last line, where programs say what was wrong, without its full stop."""
    lines = text.strip().splitlines()
    return lines[-1].strip().removesuffix(".") if lines else "it said nothing"
