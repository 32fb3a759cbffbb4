"""Signals mean what they mean to Gunicorn, to the supervisor alone or to the whole group."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.integration.conftest import RunServer
from tests.integration.held_request import Gate, HeldRequest
from tests.integration.load_client import LoadClient
from tests.integration.processes import read_process
from tests.integration.wire import Answer, Breakage, BrokenAnswer


@pytest.mark.parametrize("to_group", [False, True], ids=["supervisor", "group"])
def test_term_finishes_the_request_in_flight_and_then_ends_with_zero(
    run_server: RunServer, gate: Gate, to_group: bool
) -> None:
    server = run_server("-w", "2")
    with server.connect() as wire:
        held = HeldRequest(wire, gate)
        (server.send_signal_to_group if to_group else server.send_signal)(signal.SIGTERM)
        server.log.wait_for("(?i)(stopping|shutting down|drain)")
        gate.release()
        answer = held.result()
        assert isinstance(answer, Answer), answer
        assert answer.status == 200
    assert server.wait() == 0


def test_a_response_that_begins_after_term_says_that_its_connection_closes(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "2", "--threads", "1", "--greenlets", "1")
    with Gate() as one, Gate() as other, contextlib.ExitStack() as stack:
        # Connected one after the other: a worker that is busy accepts nobody.
        held = {
            gate: HeldRequest(stack.enter_context(server.connect()), gate) for gate in (one, other)
        }
        # Orders are given in the order of slots: when worker 1 has obeyed, worker 0 has its own.
        last, first = sorted(held, key=lambda gate: _slot(held[gate].pid), reverse=True)
        server.send_signal(signal.SIGTERM)
        last.release()
        server.wait_until_gone([held[last].pid])
        first.release()
        answer = held[first].result()
    assert isinstance(answer, Answer), answer
    assert not answer.keeps_alive
    assert server.wait() == 0


def _slot(pid: int) -> str:
    process = read_process(pid)
    assert process is not None
    return process.title.partition("worker ")[2]


@pytest.mark.parametrize("to_group", [False, True], ids=["supervisor", "group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["INT", "QUIT"])
def test_int_and_quit_end_at_once_without_the_request_in_flight(
    run_server: RunServer, gate: Gate, number: signal.Signals, to_group: bool
) -> None:
    server = run_server("-w", "2")
    with server.connect() as wire:
        held = HeldRequest(wire, gate)
        (server.send_signal_to_group if to_group else server.send_signal)(number)
        assert server.wait() == 0
        broken = held.result()
        assert isinstance(broken, BrokenAnswer)
        assert broken.breakage in {Breakage.MISSING, Breakage.RESET}


def test_a_second_term_ends_at_once(run_server: RunServer, gate: Gate) -> None:
    server = run_server("-w", "1")
    with server.connect() as wire:
        HeldRequest(wire, gate)
        server.send_signal(signal.SIGTERM)
        server.log.wait_for("(?i)(stopping|shutting down|drain)")
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_terms_that_go_on_until_the_very_end_still_end_with_zero(run_server: RunServer) -> None:
    server = run_server("-w", "1")
    while server.process.poll() is None:
        server.send_signal(signal.SIGTERM)
    assert server.process.returncode == 0


def test_a_request_that_outlives_the_grace_is_cut_off(run_server: RunServer, gate: Gate) -> None:
    server = run_server("-w", "1", "--graceful-timeout", "1")
    with server.connect() as wire:
        held = HeldRequest(wire, gate)
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert isinstance(held.result(), BrokenAnswer)


def test_an_idle_connection_does_not_hold_up_a_stop(run_server: RunServer) -> None:
    server = run_server("-w", "1")
    with server.connect() as wire:
        assert wire.request("GET", "/hello").keeps_alive
        assert server.stop() == 0
        assert wire.is_closed_by_server


def test_a_stop_under_load_answers_every_request_it_accepted(run_server: RunServer) -> None:
    server = run_server("-w", "2")
    with LoadClient(server.address, clients=4) as load:
        load.wait_for_answers(50)
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        tally = load.stop()
    assert not tally.lost[Breakage.SHORT.value], tally.examples


def test_ttin_adds_a_worker_and_ttou_takes_one(run_server: RunServer) -> None:
    server = run_server("-w", "1")
    server.send_signal(signal.SIGTTIN)
    server.wait_for_workers(2)
    server.send_signal(signal.SIGTTIN)
    server.wait_for_workers(3)
    server.send_signal(signal.SIGTTOU)
    server.wait_for_workers(2)
    server.send_signal(signal.SIGTTOU)
    server.wait_for_workers(1)
    assert server.get("/hello").status == 200


def test_ttou_leaves_the_last_worker_alone(run_server: RunServer) -> None:
    server = run_server("-w", "1")
    (worker,) = server.workers()
    server.send_signal(signal.SIGTTOU)
    server.send_signal(signal.SIGTTIN)
    workers = server.wait_for_workers(2)
    assert worker in workers
    assert server.get("/hello").status == 200


def test_ttou_loses_no_request(run_server: RunServer) -> None:
    server = run_server("-w", "3")
    with LoadClient(server.address, clients=6) as load:
        load.wait_for_answers(50)
        server.send_signal(signal.SIGTTOU)
        server.wait_for_workers(2)
        load.wait_for_answers(50)
        tally = load.stop()
    assert not tally.lost, tally.examples


@pytest.mark.parametrize("to_group", [False, True], ids=["supervisor", "group"])
def test_usr1_reopens_the_logs_that_were_moved_away(
    run_server: RunServer, tmp_path: Path, to_group: bool
) -> None:
    access, errors = tmp_path / "access.log", tmp_path / "error.log"
    server = run_server("-w", "2", "--access-logfile", str(access), "--error-logfile", str(errors))
    server.get("/hello?token=before")
    server.log.wait_until(lambda: "token=before" in access.read_text())
    access.rename(tmp_path / "access.log.1")
    errors.rename(tmp_path / "error.log.1")
    (server.send_signal_to_group if to_group else server.send_signal)(signal.SIGUSR1)
    server.log.wait_until(lambda: access.exists() and errors.exists())

    def is_logged_anew() -> bool:
        server.get("/hello?token=after")
        return access.read_text().count("token=after") >= 10

    server.log.wait_until(is_logged_anew)
    assert "token=before" not in access.read_text()
    assert read_process(server.pid) is not None


def test_a_terminal_that_hangs_up_reloads_and_loses_nothing(run_server: RunServer) -> None:
    server = run_server("-w", "2")
    before = server.workers()
    server.project.deploy("two")
    with LoadClient(server.address, clients=4) as load:
        load.wait_for_answers(20)
        server.send_signal_to_group(signal.SIGHUP)
        server.wait_until_gone(before)
        load.wait_for_answers(50)
        tally = load.stop()
    assert not tally.lost, tally.examples
    assert server.whoami()["version"] == "two"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_signal_to_one_worker_replaces_it_without_a_lost_request(
    run_server: RunServer, number: signal.Signals
) -> None:
    server = run_server("-w", "2")
    victim = min(server.workers())
    with LoadClient(server.address, clients=4) as load:
        load.wait_for_answers(20)
        os.kill(victim, number)
        server.wait_until_gone([victim])
        load.wait_for_answers(20)
        tally = load.stop()
    assert not tally.lost, tally.examples
    server.wait_for_workers(2)


def test_a_stop_while_workers_are_still_starting_waits_for_none_of_them(
    run_server: RunServer,
) -> None:
    for _ in range(4):
        server = run_server("--workers", "6", "--graceful-timeout", "300s")
        assert server.stop() == 0
