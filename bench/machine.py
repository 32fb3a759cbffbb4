"""On what, with what and when something was measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from peers import installed_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peers import Peer

# What changes the speed of a server and is a distribution of its own.
COMPANIONS = {"gunicorn": ("gunicorn_h1c", "gevent"), "uwsgi": ("gevent",)}


def today() -> str:
    """Return the date, such as 2026-11-22."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def machine() -> str:
    """Return the processor's model, the number of cores, and the kernel's version."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    kernel = ".".join(platform.release().split(".")[:2])
    cores = os.cpu_count()
    return f"{model[1] if model else platform.machine()}, {cores} cores, Linux {kernel}"


def versions(peers: Sequence[Peer], *, nginx: bool) -> str:
    """Return the versions of Python, Django, and of the servers that are installed."""
    names = ["django"]
    for peer in peers:
        names += [peer.distribution, *COMPANIONS.get(peer.distribution, ())]
    words = [f"CPython {platform.python_version()}"]
    words += [
        f"{name} {found}" for name in dict.fromkeys(names) if (found := installed_version(name))
    ]
    return ", ".join([*words, _nginx_version()] if nginx else words)


def _nginx_version() -> str:
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True)  # noqa: S607
    return said.stderr.rpartition(": ")[2].strip().replace("/", " ")
