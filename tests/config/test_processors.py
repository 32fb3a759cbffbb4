"""The CPU quota of a cgroup, read from trees laid out as the kernel lays them out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from django_wsgiserve.config.processors import Processors, available, cgroup_quota, worker_count

V2 = "36 25 0:31 {root} {mount} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 25 0:28 {root} {mount} rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "34 25 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


def tree(root: Path, cgroup: str, mountinfo: str, files: dict[str, str]) -> Path:
    """Write what the kernel would show, below `root`."""
    files = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo, **files}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return root


def v2_tree(root: Path, group: str, files: dict[str, str], mounted_root: str = "/") -> Path:
    mount = "/sys/fs/cgroup"
    return tree(
        root,
        f"0::{group}",
        V2.format(root=mounted_root, mount=mount),
        {f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    )


def v1_tree(root: Path, group: str, files: dict[str, str], mounted_root: str = "/") -> Path:
    mount = "/sys/fs/cgroup/cpu,cpuacct"
    return tree(
        root,
        f"5:memory:{group}\n4:cpu,cpuacct:{group}\n0::/",
        V1_MEMORY + "\n" + V1.format(root=mounted_root, mount=mount),
        {f"sys/fs/cgroup/cpu,cpuacct/{name}": text for name, text in files.items()},
    )


def test_version_2_quota_of_a_container_is_read(tmp_path: Path) -> None:
    assert cgroup_quota(v2_tree(tmp_path, "/", {"cpu.max": "150000 100000"})) == 1.5


def test_version_2_max_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_quota(v2_tree(tmp_path, "/", {"cpu.max": "max 100000"})) is None


def test_smallest_quota_up_the_version_2_tree_counts(tmp_path: Path) -> None:
    root = v2_tree(
        tmp_path,
        "/kube.slice/pod.slice/app.scope",
        {
            "kube.slice/cpu.max": "800000 100000",
            "kube.slice/pod.slice/cpu.max": "200000 100000",
            "kube.slice/pod.slice/app.scope/cpu.max": "max 100000",
            "other.slice/cpu.max": "10000 100000",
        },
    )
    assert cgroup_quota(root) == 2.0


def test_version_1_quota_is_read(tmp_path: Path) -> None:
    root = v1_tree(
        tmp_path,
        "/docker/abc",
        {
            "docker/abc/cpu.cfs_quota_us": "50000",
            "docker/abc/cpu.cfs_period_us": "100000",
            "docker/cpu.cfs_quota_us": "-1",
            "docker/cpu.cfs_period_us": "100000",
        },
    )
    assert cgroup_quota(root) == 0.5


def test_version_1_quota_of_an_ancestor_counts(tmp_path: Path) -> None:
    root = v1_tree(
        tmp_path,
        "/a/b",
        {
            "a/b/cpu.cfs_quota_us": "-1",
            "a/b/cpu.cfs_period_us": "100000",
            "a/cpu.cfs_quota_us": "300000",
            "a/cpu.cfs_period_us": "100000",
        },
    )
    assert cgroup_quota(root) == 3.0


def test_version_1_mount_that_begins_at_the_containers_group_is_understood(tmp_path: Path) -> None:
    files = {"cpu.cfs_quota_us": "250000", "cpu.cfs_period_us": "100000"}
    root = v1_tree(tmp_path, "/docker/abc", files, mounted_root="/docker/abc")
    assert cgroup_quota(root) == 2.5


def test_group_outside_of_the_mount_is_the_mount_point(tmp_path: Path) -> None:
    root = v2_tree(tmp_path, "/../../elsewhere", {"cpu.max": "100000 100000"})
    assert cgroup_quota(root) == 1.0


def test_group_outside_of_what_is_mounted_is_the_mount_point(tmp_path: Path) -> None:
    root = v2_tree(tmp_path, "/other", {"cpu.max": "100000 100000"}, mounted_root="/docker/abc")
    assert cgroup_quota(root) == 1.0


def test_machine_that_mounts_both_versions_is_read_in_both(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "1:cpu:/a\n0::/a",
        V1.format(root="/", mount="/sys/fs/cgroup/cpu")
        + "\n"
        + V2.format(root="/", mount="/sys/fs/cgroup/unified"),
        {
            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "400000",
            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/unified/a/cpu.max": "350000 100000",
        },
    )
    assert cgroup_quota(root) == 3.5


def test_mount_point_with_a_space_is_found(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "0::/",
        V2.format(root="/", mount=r"/my\040mount"),
        {"my mount/cpu.max": "100000 100000"},
    )
    assert cgroup_quota(root) == 1.0


@pytest.mark.parametrize("text", ["", "max", "a b", "0 100000", "100000 0", "1 2 3"])
def test_quota_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    assert cgroup_quota(v2_tree(tmp_path, "/", {"cpu.max": text})) is None


def test_system_without_cgroups_has_no_quota(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path) is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux tells the affinity")
def test_affinity_is_what_this_process_may_run_on(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    one = min(before)
    os.sched_setaffinity(0, {one})
    try:
        assert available(tmp_path) == Processors(1, None)
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("processors", "count", "arithmetic"),
    [
        (Processors(1), 3, "1 CPU allowed by affinity → 2 × 1 + 1 = 3"),  # noqa: RUF001
        (
            Processors(2, 1.5),
            5,
            "2 CPUs allowed by affinity, quota 1.5 → 2 × 2 + 1 = 5",  # noqa: RUF001
        ),
        (
            Processors(8, 0.25),
            3,
            "8 CPUs allowed by affinity, quota 0.25 → 2 × 1 + 1 = 3",  # noqa: RUF001
        ),
        (
            Processors(2, 64.0),
            5,
            "2 CPUs allowed by affinity, quota 64 → 2 × 2 + 1 = 5",  # noqa: RUF001
        ),
        (Processors(16), 32, "16 CPUs allowed by affinity → 16 + 16 = 32"),
        (Processors(64), 80, "64 CPUs allowed by affinity → 64 + 16 = 80"),
    ],
)
def test_arithmetic_of_the_workers_is_shown(
    processors: Processors, count: int, arithmetic: str
) -> None:
    assert worker_count(processors) == (count, arithmetic)


def test_more_cpus_never_make_fewer_workers() -> None:
    counts = [worker_count(Processors(cpus))[0] for cpus in range(1, 300)]
    assert counts == sorted(counts)


@pytest.mark.parametrize("request_slots", [2, 4, 40])
def test_workers_that_run_several_requests_are_one_for_each_cpu_and_a_spare(
    request_slots: int,
) -> None:
    assert worker_count(Processors(8), request_slots) == (
        9,
        "8 CPUs allowed by affinity → 8 + 1 = 9",
    )
