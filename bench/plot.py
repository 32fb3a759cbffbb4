"""A scenario's result as bars: the figure that decides, with its lowest and highest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from results import Result

_OURS = "#0c4b33"
_OTHERS = "#9aa5a0"
_TEXT = "#4a4a4a"
_BAR_INCHES = 0.34
# Beyond this ratio of longest to shortest bar the short ones cannot be told apart.
_LINEAR_UP_TO = 25


def draw(result: Result, file: Path) -> None:
    """Write an SVG; the same result gives the same bytes."""
    mpl.rcParams["svg.hashsalt"] = result.scenario.name
    mpl.rcParams["svg.fonttype"] = "none"
    names = [peer.name for peer in result.scenario.peers if peer.name in result.samples][::-1]
    judge = result.scenario.load.judged_by
    values = [result.figure(name, judge) for name in names]
    extents = [result.extent(name, judge) for name in names]
    errors = (
        [value - low for value, (low, _) in zip(values, extents, strict=True)],
        [high - value for value, (_, high) in zip(values, extents, strict=True)],
    )
    figure = Figure(figsize=(8, 1.1 + _BAR_INCHES * len(names)), layout="constrained")
    axes = figure.subplots()
    colours = [_OURS if name.startswith("django-wsgiserve") else _OTHERS for name in names]
    axes.barh(names, values, xerr=errors, color=colours, ecolor=_TEXT, capsize=2)
    logarithmic = min(values) > 0 and max(values) > _LINEAR_UP_TO * min(values)
    if logarithmic:
        axes.set_xscale("log")
    direction = "more is better" if judge.more_is_better else "less is better"
    scale = ", logarithmic" if logarithmic else ""
    axes.set_xlabel(f"{judge.head} ({direction}{scale})", color=_TEXT)
    axes.set_title(result.scenario.title, loc="left", color=_TEXT)
    axes.tick_params(colors=_TEXT)
    axes.spines[["top", "right"]].set_visible(False)
    for place, (value, (_, high)) in enumerate(zip(values, extents, strict=True)):
        label = f"  {value:,.{judge.digits}f}"
        axes.text(high, place, label, va="center", color=_TEXT, fontsize=8)
    axes.margins(x=0.12)
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
