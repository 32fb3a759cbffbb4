"""What a forkserver is started with, and how it starts itself again.

Whether a generation needs gevent's patches is known when its settings are loaded; that
is too late for patching, but not for beginning anew.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import NoReturn

from django_wsgiserve.boot import (
    flush_standard_streams,
    initial_environment,
    patched_command,
    same_command,
)
from django_wsgiserve.errors import CheckRefused
from django_wsgiserve.integration.databases import close_all
from django_wsgiserve.patching import patching
from django_wsgiserve.supervisor.forkservers import FAULTHANDLER, VARIABLE, forkserver_environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a forkserver is started with; the names are those of the variable's JSON.

    `directory` is the one it was started in, `started_s` the moment (monotonic);
    `restarted` says that it has started itself again already. `control` to `lifeline` are
    descriptors, but for `slots`, and so are the two of `handoff`. `slots` and `requests` are
    the scoreboard's rows and the cells of each; `listeners` are descriptors with the
    addresses they were configured as.
    """

    generation: int
    first: bool
    directory: str
    started_s: float
    control: int
    stderr: int
    scoreboard: int
    slots: int
    reports: int
    lifeline: int
    requests: int
    handoff: tuple[int, int]
    listeners: tuple[tuple[int, str], ...]
    restarted: bool = False
    text: str = ""
    """The JSON it was read from."""

    @classmethod
    def take(cls) -> Task:
        """Read the variable and remove it: the project's own children have no use for it."""
        text = os.environ.pop(VARIABLE)
        values = json.loads(text)
        if os.environ.get("PYTHONFAULTHANDLER") == FAULTHANDLER:
            del os.environ["PYTHONFAULTHANDLER"]
        listeners = tuple((one["fd"], one["name"]) for one in values.pop("listeners"))
        send_fd, receive_fd = values.pop("handoff")
        task = cls(listeners=listeners, handoff=(send_fd, receive_fd), text=text, **values)
        for fd in task.inherited:
            os.set_inheritable(fd, False)
        return task

    @property
    def inherited(self) -> frozenset[int]:
        """Every descriptor that came from the supervisor."""
        own = (self.control, self.stderr, self.scoreboard, self.reports, self.lifeline)
        return frozenset((*own, *self.handoff, *(fd for fd, _ in self.listeners)))


def start_again(task: Task, *, gevent: bool) -> NoReturn:
    """Become the same program with gevent's patches, or without.

    The process, its descriptors and with them the supervisor's view of it stay.

    Raises:
        CheckRefused: It has been tried, or cannot help.
    """
    if gevent and patching.too_early:
        raise CheckRefused(
            "WORKER_CLASS is gevent, but something was imported too early for its patches:"
            f" {', '.join(patching.too_early)}",
            "Import it later, not from sitecustomize, usercustomize or a .pth file; "
            'or use WORKER_CLASS = "threads".',
        )
    if gevent and patching.error:
        raise CheckRefused(f"WORKER_CLASS is gevent, which cannot be imported: {patching.error}")
    if task.restarted:
        raise CheckRefused(
            "WORKER_CLASS is gevent only where gevent has not patched the standard library"
            if gevent
            else "WORKER_CLASS is not gevent where gevent has patched the standard library",
            "Let the settings not look at what is patched.",
        )
    text = json.dumps({**json.loads(task.text), "restarted": True})
    environment = forkserver_environment(
        {os.fsdecode(k): os.fsdecode(v) for k, v in initial_environment().items()}, text
    )
    command = patched_command(same_command()) if gevent else list(same_command())
    close_all()
    flush_standard_streams()
    os.chdir(task.directory)
    for fd in task.inherited:
        os.set_inheritable(fd, True)
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell is wanted
