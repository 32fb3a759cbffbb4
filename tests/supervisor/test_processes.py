"""Handles on real processes, and who is reaped."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

from django_wsgiserve.scoreboard import RequestStatus
from django_wsgiserve.supervisor.obituary import cause_of_death, running_request
from django_wsgiserve.supervisor.processes import ProcessHandle
from django_wsgiserve.supervisor.ready import write_ready
from django_wsgiserve.supervisor.signals import HANDLED, SignalInbox

DEADLINE_S = 10


def test_a_signal_reaches_the_process_and_its_end_shows() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    handle = ProcessHandle.open(process.pid)
    assert not handle.gone
    handle.send(signal.SIGKILL)
    assert process.wait(DEADLINE_S) == -signal.SIGKILL
    assert handle.gone
    handle.send(signal.SIGKILL)
    handle.close()
    assert handle.gone


def test_a_process_that_was_reaped_before_the_handle_was_opened_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(DEADLINE_S)
    assert ProcessHandle.open(process.pid).gone


def test_the_cause_of_death_is_named() -> None:
    assert cause_of_death(signal.SIGKILL) == "was killed by SIGKILL"
    assert cause_of_death(signal.SIGRTMIN + 1) == f"was killed by signal {signal.SIGRTMIN + 1}"
    assert cause_of_death(3 << 8) == "exited with code 3"
    assert cause_of_death(None) == "ended"


def test_a_path_of_a_client_cannot_write_lines_of_the_log() -> None:
    request = RequestStatus(started_s=1.0, method="GET", path="/a\nFAKE", view="shop.views.a")
    text = running_request(request, 3.5)
    assert text == " while it ran GET /a\\nFAKE (view shop.views.a) for 2.5 s"
    assert running_request(None, 3.5) == ""


def test_signals_wake_the_loop_in_the_order_they_came() -> None:
    before = {number: signal.getsignal(number) for number in HANDLED}
    try:
        with SignalInbox() as inbox:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert select.select([inbox], [], [], DEADLINE_S)[0]
            assert inbox.take() == [signal.SIGHUP, signal.SIGUSR1]
            assert inbox.take() == []
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_who_stopped_waiting_for_ready_does_not_stop_the_server() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    write_ready(write_end, b"{}\n")
    read_end, write_end = os.pipe()
    write_ready(write_end, b"{}\n")
    assert os.read(read_end, 10) == b"{}\n"
    assert os.read(read_end, 10) == b""
    os.close(read_end)
