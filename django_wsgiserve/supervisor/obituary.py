"""What is said of a worker that is stuck or gone: the words of the log."""

from __future__ import annotations

import math
import os
import signal
from typing import Any

from django_wsgiserve.scoreboard import RequestStatus


def cause_of_death(status: int | None) -> str:
    """Return how a process ended, from its wait status; `None` when nobody could tell."""
    if status is None:
        return "ended"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"


def running_request(request: RequestStatus | None, now_s: float) -> str:
    """Return ` while it ran GET /x (view shop.views.x) for 31.2 s`, or an empty string.

    Where the view has a limit of its own, that is said too.
    """
    if request is None:
        return ""
    view = f" (view {request.view})" if request.view else ""
    age_s = now_s - request.started_s
    limit = f" (TIMEOUT of the view: {request.timeout_s:g} s)" if request.timeout_s else ""
    if math.isinf(request.timeout_s):
        limit = " (the view has no TIMEOUT)"
    # The path is a client's: it must not write lines of its own.
    path = request.path.encode("unicode_escape").decode("ascii")
    return f" while it ran {request.method} {path}{view} for {age_s:.1f} s{limit}"


def request_fields(request: RequestStatus | None, now_s: float) -> dict[str, Any]:
    """Return the same for a machine."""
    if request is None:
        return {}
    return {
        "method": request.method,
        "path": request.path,
        "view": request.view,
        "age_s": round(now_s - request.started_s, 3),
    }


def plural(count: int, noun: str) -> str:
    """Return `1 worker`, `2 workers`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
