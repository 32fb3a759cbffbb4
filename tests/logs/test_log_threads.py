"""Descriptors that cannot be opened again are written by a thread, and only the thread waits."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from django_wsgiserve.logs.devices import ThreadDevice, open_standard
from tests.logs.devices import (
    DEADLINE_S,
    Target,
    fill_pipe,
    open_pipe,
    read_until,
    reopening_refused,
)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    with open_pipe() as ends:
        yield ends


def test_pipe_of_another_user_is_written_by_a_thread(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    with reopening_refused(write_end):
        device = open_standard(write_end)
    assert isinstance(device, ThreadDevice)
    log = Target(lambda: device)
    log.write(b"one", b"two")
    log.target.flush()
    assert read_until(read_end, b"two\n") == b"one\ntwo\n"
    log.target.close()


def test_thread_that_has_to_wait_makes_nobody_else_wait(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    filled = fill_pipe(write_end)
    device = ThreadDevice(os.dup(write_end))
    log = Target(lambda: device, held_bytes=1000)
    for _ in range(10_000):
        log.write(b"a line of 20 bytes.")
        log.flush_later()
    assert log.target.is_held  # the thread's own bound is reached, and the target's
    assert log.target.failure is None
    log.clock.now_s += 60
    received = b""
    while b"dropped" not in received:
        assert select.select([read_end], [], [], DEADLINE_S)[0]
        received += os.read(read_end, 65536)
        log.flush_later()
    received += read_until(read_end, b"\n") if not received.endswith(b"\n") else b""
    lines = received[filled:].splitlines()
    kept = lines.count(b"a line of 20 bytes.")
    [notice] = [line for line in lines if line.startswith(b"dropped")]
    assert kept + int(notice.split()[1]) == 10_000
    log.target.close()


def test_thread_keeps_its_line_while_the_device_fails(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    with Path("/dev/full").open("wb") as full:
        fd = os.dup(full.fileno())
    device = ThreadDevice(fd)
    log = Target(lambda: device)
    log.write(b"one")
    log.flush_later()
    log.write(b"two")
    while log.target.failure is None:
        log.write(b"more")
        log.flush_later()
    assert log.target.failure.errno == errno.ENOSPC
    os.dup2(write_end, fd)  # the disk has room again
    log.flush_later()
    log.write(b"last")
    log.flush_later()
    assert read_until(read_end, b"last\n").startswith(b"one\ntwo\n")
    log.target.close()


def test_closing_leaves_the_descriptor_to_a_thread_that_still_writes(
    pipe: tuple[int, int],
) -> None:
    read_end, write_end = pipe
    fill_pipe(write_end)
    fd = os.dup(write_end)
    device = ThreadDevice(fd)
    device.write(b"late\n")
    device.close(0)
    os.fstat(fd)  # not closed
    assert read_until(read_end, b"late\n")


def test_thread_is_a_real_one_under_gevent() -> None:
    pytest.importorskip("gevent")
    script = (
        "import gevent.monkey; gevent.monkey.patch_all()\n"
        "import os, fcntl, sys\n"
        "from django_wsgiserve.logs.devices import ThreadDevice\n"
        "from tests.logs.devices import fill_pipe\n"
        "read_end, write_end = os.pipe(); fill_pipe(write_end)\n"
        "device = ThreadDevice(write_end); device.write(b'line\\n')\n"
        "import gevent; gevent.sleep(0); gevent.sleep(0)\n"
        "os.write(1, b'not blocked\\n'); os._exit(0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        timeout=DEADLINE_S * 3,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert result.stdout == b"not blocked\n", result.stderr.decode()
