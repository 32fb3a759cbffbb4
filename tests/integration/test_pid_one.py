"""In a container the supervisor is process 1 and everybody's last parent."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import RunServer
from tests.integration.processes import all_processes, children_of, read_process
from tests.integration.running_server import RunningServer

UNSHARE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@functools.cache
def obstacle() -> str:
    """Why there can be no process namespace here; empty when there can."""
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        return "util-linux (unshare, nsenter) is not installed"
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"no process namespace: {tried.stderr.strip()}"


@pytest.fixture
def container(run_server: RunServer) -> Iterator[tuple[RunningServer, int]]:
    """Return a server that is process 1 of a namespace, and its pid seen from outside."""
    if reason := obstacle():
        pytest.skip(reason)
    server = run_server("-w", "1", prefix=UNSHARE)
    (init,) = children_of(server.pid)
    yield server, init.pid
    os.kill(init.pid, signal.SIGTERM)
    assert server.process.wait(30) == 0


def test_process_one_reaps_strangers_quietly(
    container: tuple[RunningServer, int], tmp_path: Path
) -> None:
    server, init = container
    fifo = tmp_path / "stranger"
    os.mkfifo(fifo)
    log_before = server.log.text
    script = f"(cat {fifo} >/dev/null &)"
    nsenter = shutil.which("nsenter") or "nsenter"
    subprocess.run([nsenter, "--target", str(init), "--pid", "sh", "-c", script], check=True)
    stranger = next(p for p in all_processes() if str(fifo) in p.title)
    server.log.wait_until(lambda: _parent(stranger.pid) == init)
    fifo.open("wb").close()
    server.log.wait_until(lambda: read_process(stranger.pid) is None)
    assert server.log.text == log_before
    assert server.get("/hello").status == 200


def test_process_one_serves_and_reloads(container: tuple[RunningServer, int]) -> None:
    server, init = container
    assert server.whoami()["version"] == "one"
    server.project.deploy("two")
    os.kill(init, signal.SIGHUP)
    server.log.wait_until(lambda: server.whoami()["version"] == "two")


def _parent(pid: int) -> int:
    process = read_process(pid)
    return process.parent if process else 0
