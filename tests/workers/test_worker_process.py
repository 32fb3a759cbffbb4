"""A worker's life in a process of its own: what it reports and logs, and its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from django_wsgiserve.scoreboard import Order, State
from django_wsgiserve.workers import loop as loop_module
from django_wsgiserve.workers.slots import RequestSlot
from tests.workers.applications import digest, digest_of
from tests.workers.http_client import ask, get, post
from tests.workers.worker_process import GENERATION, Fork, Piped, WorkerProcess

if TYPE_CHECKING:
    pass


def test_a_worker_says_that_it_is_ready_and_serves(fork: Fork) -> None:
    process = fork().ready()
    status = process.now()
    assert (status.pid, status.generation) == (process.pid, GENERATION)
    assert status.state is State.SERVING
    with process.connect() as client:
        assert ask(client, get("/hello")).body == b"/hello"


def test_a_worker_beats_at_once(fork: Fork) -> None:
    before_s = time.monotonic()
    process = fork().ready()
    with process.connect() as client:
        ask(client, get("/"))
        assert process.now().heartbeat_s >= before_s


def test_its_title_says_what_it_is(fork: Fork) -> None:
    process = fork(settings={"proc_name": "site"}).ready()
    title = Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    assert title == f"site: worker 1 (generation {GENERATION})"


def test_the_last_request_is_reported_once_and_serving_goes_on(fork: Fork) -> None:
    process = fork(settings={"max_requests": 3}, probe="/").ready()
    with process.connect() as client:
        for _ in range(6):
            assert not ask(client, get("/")).closes
    assert process.report() == {"event": "retire_me", "reason": "MAX_REQUESTS reached (3)"}
    process.order(Order.RETIRE)
    assert process.wait() == 0
    assert process.reports_left() == []


def test_the_last_request_varies_from_worker_to_worker(fork: Fork) -> None:
    settings = {"max_requests": 1, "max_requests_jitter": 20}
    limits = set()
    for _ in range(6):
        process = fork(settings=settings).ready()
        with process.connect() as client:
            for _ in range(21):
                ask(client, get("/"))
        reason = process.report()["reason"]
        limits.add(int(reason.removeprefix("MAX_REQUESTS reached (").removesuffix(")")))
        process.order(Order.QUIT)
        assert process.wait() == 0
    assert len(limits) > 1
    assert limits <= set(range(1, 22))


def test_an_aborted_worker_leaves_the_stack_of_what_it_was_doing(fork: Fork, piped: Piped) -> None:
    process = fork(application=piped).ready()
    with process.connect() as client:
        client.sendall(get("/held"))
        piped.wait()
        assert process.now().oldest is not None
        process.signal(signal.SIGABRT)
        assert process.wait() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in process.stack
    assert "stuck_here" in process.stack
    oldest = process.now().oldest
    assert oldest is not None
    assert (oldest.method, oldest.path) == ("GET", "/held")


def test_usr1_opens_the_logs_by_their_paths_again(fork: Fork) -> None:
    process = fork().ready()
    with process.connect() as client:
        ask(client, get("/before"))
        rotated = process.access_log.with_suffix(".1")
        process.access_log.rename(rotated)
        process.signal(signal.SIGUSR1)
        while not process.access_log.exists():
            os.sched_yield()
        ask(client, get("/after"))
    process.order(Order.RETIRE)
    assert process.wait() == 0
    assert "/before" in rotated.read_text()
    assert "/after" not in rotated.read_text()
    assert "/after" in process.access_log.read_text()


def test_every_request_has_its_line_in_the_access_log(fork: Fork) -> None:
    process = fork(application=digest).ready()
    with process.connect() as client:
        assert ask(client, post("/up", b"body")).body == digest_of(b"body")
        ask(client, b"NOT HTTP\r\n\r\n")
    process.order(Order.RETIRE)
    assert process.wait() == 0
    first, second = process.access_log.read_text().splitlines()
    assert '"POST /up HTTP/1.1" 200' in first
    assert '"NOT HTTP" 400' in second


def test_databases_are_closed_before_a_worker_is_gone(fork: Fork, tmp_path: Path) -> None:
    mark = tmp_path / "closed"
    process = fork(before_exit=mark.touch).ready()
    assert not mark.exists()
    process.order(Order.RETIRE)
    assert process.wait() == 0
    assert mark.exists()


def test_a_failing_farewell_does_not_keep_the_worker(fork: Fork) -> None:
    def farewell() -> None:
        raise RuntimeError("database gone")

    process = fork(before_exit=farewell).ready()
    process.order(Order.RETIRE)
    assert process.wait() == 0


def test_a_worker_that_fails_says_why_and_exits_with_1(fork: Fork, tmp_path: Path) -> None:
    process = fork(settings={"access_log_format": "%(nonsense)s"})
    assert process.wait() == 1
    assert process.reports_left() == []


def test_a_bug_in_the_loop_is_logged_with_its_traceback(
    fork: Fork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, connection: object) -> None:
        raise KeyError("a bug of ours")

    process = fork_with_bug(fork, monkeypatch, broken)
    with process.connect() as client:
        client.sendall(get("/"))
        assert process.wait() == 1
    log = process.error_log.read_text()
    assert "worker 1 failed: KeyError: 'a bug of ours'" in log
    assert "Traceback (most recent call last)" in log


def fork_with_bug(
    fork: Fork, monkeypatch: pytest.MonkeyPatch, bug: Callable[..., None]
) -> WorkerProcess:
    """Return a worker whose reactor has a bug in serving a request."""

    def serve(slot: object, connection: object, *, keep_alive: bool) -> None:
        bug(slot, connection)

    monkeypatch.setattr(RequestSlot, "serve", serve)
    return fork().ready()


def test_a_worker_that_cannot_even_be_built_exits_with_1(
    fork: Fork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_poller() -> None:
        raise OSError("no descriptor for epoll")

    monkeypatch.setattr(loop_module, "new_poller", no_poller)
    process = fork()
    assert process.wait() == 1
