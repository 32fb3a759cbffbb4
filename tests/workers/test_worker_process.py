"""A worker's life in a process of its own: orders, signals, reports, its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from django_wsgiserve.scoreboard import Order, State
from django_wsgiserve.workers import loop as loop_module
from django_wsgiserve.workers.slots import RequestSlot
from tests.workers.http_client import AnswerReader, ask, get, post
from tests.workers.served import hello
from tests.workers.test_requests import digest, digest_of
from tests.workers.test_slow_readers import Endless
from tests.workers.worker_process import GENERATION, WorkerProcess

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Fork = Callable[..., WorkerProcess]


@pytest.fixture
def fork(tmp_path: Path, poller: object) -> Iterator[Fork]:
    """Return a function that starts a worker; all of them are ended after the test."""
    made: list[WorkerProcess] = []

    def start(**values: Any) -> WorkerProcess:
        process = WorkerProcess(tmp_path, **values)
        made.append(process)
        return process.start()

    yield start
    for process in made:
        process.close()


class Piped:
    """An application that says when a request runs, and ends it when told to."""

    def __init__(self) -> None:
        self.running = os.pipe()
        self.go_on = os.pipe()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        """Hold `/held`, answer everything else with its path."""
        if environ["PATH_INFO"] == "/held":
            self.stuck_here()
        return hello(environ, start_response)

    def stuck_here(self) -> None:
        """Wait for the test; its name is looked for in a stack."""
        os.write(self.running[1], b"!")
        os.read(self.go_on[0], 1)

    def wait(self) -> None:
        """Return when the request runs."""
        os.read(self.running[0], 1)

    def release(self) -> None:
        """Let it end."""
        os.write(self.go_on[1], b"!")

    def close(self) -> None:
        """Give the pipes back."""
        for fd in (*self.running, *self.go_on):
            os.close(fd)


@pytest.fixture
def piped() -> Iterator[Piped]:
    made = Piped()
    yield made
    made.close()


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


def test_a_probe_goes_through_the_application_and_is_in_no_log(fork: Fork) -> None:
    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        assert environ["HTTP_HOST"] == "site.example"
        assert environ["HTTP_X_FORWARDED_PROTO"] == "https"
        assert environ["PATH_INFO"] == "/warm"
        start_response("204 No Content", [])
        return []

    process = fork(application=application, probe="/warm")
    assert process.report() == {"event": "ready", "status": 204}
    process.order(Order.QUIT)
    assert process.wait() == 0
    assert process.access_log.read_text() == ""


def fails(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
    """Answer every request with a 500."""
    start_response("500 Internal Server Error", [])
    return [b"broken"]


def test_a_worker_whose_probe_fails_reports_it_and_sees_no_visitor(fork: Fork) -> None:
    process = fork(application=fails, probe="/", probe_decides=True)
    assert process.report() == {"event": "ready", "status": 500}
    with process.connect() as client:
        client.sendall(get("/"))
        assert process.now().state is State.BOOTING
        process.order(Order.RETIRE)
        assert process.wait() == 0
        sock, _ = process.listener.socket.accept()
        sock.close()


def test_a_first_worker_whose_probe_fails_serves_all_the_same(fork: Fork) -> None:
    process = fork(application=fails, probe="/", probe_decides=False)
    assert process.report() == {"event": "ready", "status": 500}
    with process.connect() as client:
        assert ask(client, get("/")).status == 500


def test_a_probe_for_a_large_page_is_answered_by_its_status(fork: Fork) -> None:
    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x" * (8 << 20)]

    process = fork(application=application, probe="/").ready()
    process.order(Order.RETIRE)
    assert process.wait() == 0


def test_an_order_that_came_before_the_worker_is_obeyed(fork: Fork) -> None:
    for order in (Order.RETIRE, Order.STOP, Order.QUIT):
        process = fork(order_before=order)
        assert process.wait() == 0


def test_an_answer_to_the_probe_does_not_hide_that_the_worker_leaves(fork: Fork) -> None:
    process = fork(order_before=Order.RETIRE, probe="/")
    assert process.wait() == 0
    assert process.now().state is State.RETIRING


def test_reports_wait_for_a_supervisor_that_is_busy(fork: Fork) -> None:
    process = fork(reports_full=True)
    while process.now().state is not State.SERVING:
        os.sched_yield()
    process.signal(signal.SIGTERM)
    assert process.take_filler() > 0
    assert process.report() == {"event": "ready", "status": 200}
    assert process.report() == {"event": "retire_me", "reason": "received SIGTERM"}


@pytest.mark.parametrize("order", [Order.RETIRE, Order.STOP])
def test_an_order_to_leave_lets_the_running_request_finish(
    fork: Fork, piped: Piped, order: Order
) -> None:
    process = fork(application=piped).ready()
    with process.connect() as client:
        client.sendall(get("/held"))
        piped.wait()
        process.order(order)
        piped.release()
        assert AnswerReader(client).read().body == b"/held"
        client.close()
    assert process.wait() == 0
    assert process.reports_left() == []
    assert process.now().state is State.RETIRING


def test_a_retired_worker_answers_an_idle_connection_once_more(fork: Fork) -> None:
    process = fork().ready()
    with process.connect() as client:
        ask(client, get("/1"))
        process.order(Order.RETIRE)
        while process.now().state is not State.RETIRING:
            os.sched_yield()
        assert ask(client, get("/2")).closes
    assert process.wait() == 0


def test_a_stop_after_a_retirement_hurries(fork: Fork) -> None:
    process = fork().ready()
    with process.connect() as client:
        ask(client, get("/1"))
        process.order(Order.RETIRE)
        process.order(Order.STOP)
        assert process.wait() == 0
        assert client.recv(10) == b""


def test_an_order_to_quit_leaves_idle_and_half_sent_requests(fork: Fork) -> None:
    process = fork(application=digest).ready()
    with process.connect() as idle, process.connect() as body:
        ask(idle, get("/"))
        body.sendall(post("/up", b"body", "Expect: 100-continue")[:-4])
        assert AnswerReader(body).read().status == 100
        process.order(Order.QUIT)
        assert process.wait() == 0
    assert '"POST /up HTTP/1.1" 499' in process.access_log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_to_leave_is_a_request_to_be_replaced_made_once(
    fork: Fork, number: signal.Signals
) -> None:
    process = fork().ready()
    process.signal(number)
    assert process.report() == {"event": "retire_me", "reason": f"received {number.name}"}
    process.signal(number)
    with process.connect() as client:
        assert ask(client, get("/still")).body == b"/still"
        assert not ask(client, get("/here")).closes
    process.order(Order.RETIRE)
    assert process.wait() == 0
    assert process.reports_left() == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE])
def test_signals_for_the_supervisor_alone_change_nothing(
    fork: Fork, number: signal.Signals
) -> None:
    process = fork().ready()
    process.signal(number)
    with process.connect() as client:
        assert ask(client, get("/")).status == 200


def test_a_wakeup_without_an_order_changes_nothing(fork: Fork) -> None:
    process = fork().ready()
    process.signal(signal.SIGUSR2)
    with process.connect() as client:
        assert not ask(client, get("/")).closes


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


def test_a_dead_supervisor_is_a_reason_to_drain_and_leave(fork: Fork, piped: Piped) -> None:
    process = fork(application=piped).ready()
    with process.connect() as client, process.connect() as idle:
        ask(idle, get("/"))
        client.sendall(get("/held"))
        piped.wait()
        process.cut_lifeline()
        process.reports.close()
        piped.release()
        assert AnswerReader(client).read().body == b"/held"
        assert idle.recv(10) == b""
    assert process.wait() == 0


def test_without_a_supervisor_no_reader_keeps_a_worker_for_ever(fork: Fork) -> None:
    process = fork(
        application=Endless(),
        settings={"graceful_timeout_s": 0.0, "spool_memory": 65536, "spool_limit": 1 << 20},
    ).ready()
    with process.connect() as client:
        client.sendall(get("/endless"))
        client.recv(100)
        process.cut_lifeline()
        assert process.wait() == 0
    assert '"GET /endless HTTP/1.1" 200' in process.access_log.read_text()


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
