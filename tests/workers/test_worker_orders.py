"""What a worker process does when it is told to leave: by orders, signals, a dead supervisor."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from django_wsgiserve.scoreboard import Order, State
from tests.workers.applications import digest
from tests.workers.http_client import AnswerReader, ask, get, post
from tests.workers.test_slow_readers import Endless
from tests.workers.worker_process import Fork, Piped

if TYPE_CHECKING:
    pass


def test_an_order_that_came_before_the_worker_is_obeyed(fork: Fork) -> None:
    for order in (Order.RETIRE, Order.STOP, Order.QUIT):
        process = fork(order_before=order)
        assert process.wait() == 0


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


def test_reports_wait_for_a_supervisor_that_is_busy(fork: Fork) -> None:
    process = fork(reports_full=True)
    while process.now().state is not State.SERVING:
        os.sched_yield()
    process.signal(signal.SIGTERM)
    assert process.take_filler() > 0
    assert process.report() == {"event": "ready", "status": 200}
    assert process.report() == {"event": "retire_me", "reason": "received SIGTERM"}
