"""How many CPUs this process may use, and how many workers that makes.

Affinity says which CPUs the kernel will run us on, a cgroup's quota how much time on
them it will give. Load, memory and what else runs here are not looked at.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Two workers a CPU are for the time a request waits for the database; with many CPUs
# those waits even out, and sixteen in reserve are enough. Without a bound a 64-CPU host
# would get 129 workers, more than the 97 connections PostgreSQL has to give by default.
SPARE_WORKERS = 16


@dataclass(frozen=True, slots=True)
class Processors:
    """The CPU time that this process may use.

    Attributes:
        allowed: CPUs that the scheduler may run it on; at least 1.
        quota: CPUs' worth of time that its cgroups leave it; `None` without a limit.
    """

    allowed: int
    quota: float | None = None

    @property
    def usable(self) -> int:
        """Whole CPUs to plan for: part of one counts as one, for it can still be used."""
        if self.quota is None:
            return self.allowed
        return max(1, min(self.allowed, math.ceil(self.quota)))


def available(root: Path = Path("/")) -> Processors:
    """Return what this process may use.

    Args:
        root: Where `proc` and `sys` are found; another than `/` only in tests.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # AttributeError: only Linux can tell
        allowed = os.cpu_count() or 1
    return Processors(allowed, cgroup_quota(root))


def worker_count(processors: Processors, request_slots: int = 1) -> tuple[int, str]:
    """Return the number of workers for these CPUs, and the arithmetic for people.

    Args:
        processors: What may be used.
        request_slots: How many requests a worker runs at once. Where it is more than one,
            other slots use the time that a request waits, and one spare worker is enough.
    """
    cpus = processors.usable
    doubled = min(2 * cpus + 1, cpus + SPARE_WORKERS)
    count = doubled if request_slots == 1 else cpus + 1
    shown = (
        f"2 × {cpus} + 1"  # noqa: RUF001 - read by people: a multiplication sign
        if count == 2 * cpus + 1 and request_slots == 1
        else f"{cpus} + {count - cpus}"
    )
    noun = "CPU" if processors.allowed == 1 else "CPUs"
    quota = f", quota {processors.quota:.4g}" if processors.quota is not None else ""
    return count, f"{processors.allowed} {noun} allowed by affinity{quota} → {shown} = {count}"


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Return the smallest CPU quota of our cgroup and its ancestors, in CPUs.

    Both versions are read, for a machine may mount both. A group above the mount point
    (outside of a container) cannot be seen and so cannot be counted.

    Returns:
        `None` where nothing limits us, and where the kernel does not say.

    Source: cgroups(7); Linux, Documentation/admin-guide/cgroup-v2.rst ("cpu.max") and
    Documentation/scheduler/sched-bwc.rst.
    """
    quotas = [
        quota
        for mount, group in _cpu_hierarchies(root)
        for directory in _up_to(mount, group)
        if (quota := _read_quota(directory)) is not None
    ]
    return min(quotas, default=None)


def _cpu_hierarchies(root: Path) -> Iterator[tuple[Path, Path]]:
    """Yield mount point and our group's directory of each hierarchy that limits CPU."""
    groups = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            groups["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            groups["cgroup"] = path
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fs_type, *_ = after.split(" ", 1)
        if fs_type not in groups or (fs_type == "cgroup" and not _has_cpu(after)):
            continue
        mounted_root, mount_point = map(_unescaped, before.split(" ")[3:5])
        mount = root / mount_point.lstrip("/")
        yield mount, mount / _inside(groups[fs_type], mounted_root)


def _lines(path: Path) -> list[str]:
    """Return the lines of a file of the kernel; none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _has_cpu(after: str) -> bool:
    """Return whether the super options of a version 1 mount name the cpu controller."""
    return "cpu" in after.rsplit(" ", 1)[-1].split(",")


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _inside(group: str, mounted_root: str) -> PurePosixPath:
    """Return `group` as seen below a mount that shows the hierarchy from `mounted_root`.

    In a container of version 1 the mount begins at the container's own group; a group
    that is not below what is mounted is then the mount point itself.
    """
    try:
        path = PurePosixPath(group).relative_to(mounted_root)
    except ValueError:
        return PurePosixPath()
    return PurePosixPath() if ".." in path.parts else path


def _up_to(mount: Path, group: Path) -> Iterator[Path]:
    """Yield `group` and its ancestors, `mount` the last of them."""
    yield group
    while group != mount:
        group = group.parent
        yield group


def _read_quota(directory: Path) -> float | None:
    """Return the quota that one group sets itself, in CPUs; `None` for no limit."""
    words = " ".join(_lines(directory / "cpu.max")).split()
    if not words:
        words = _lines(directory / "cpu.cfs_quota_us") + _lines(directory / "cpu.cfs_period_us")
    try:
        quota_us, period_us = map(int, words)
    except ValueError:  # "max", an absent file, or a form that no kernel writes
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None
