"""The scoreboard: what is written in one process is read in another, and by whom."""

from __future__ import annotations

import math
import os
import struct

import pytest

from django_wsgiserve.scoreboard import Order, RequestStatus, Scoreboard, State


def test_a_new_row_is_empty() -> None:
    status = Scoreboard.create(3).row(2).status()
    assert (status.slot, status.pid, status.generation) == (2, 0, 0)
    assert (status.state, status.order) == (State.EMPTY, Order.NONE)
    assert status.running == ()
    assert status.oldest is None
    assert status.heartbeat_s == 0.0
    assert (status.requests, status.errors, status.connections, status.handoffs) == (0, 0, 0, 0)


def test_what_a_child_process_writes_its_parent_reads_after_its_death() -> None:
    board = Scoreboard.create(2)
    row = board.row(1)
    pid = os.fork()
    if pid == 0:
        row.occupy(os.getpid(), 7)
        row.state = State.SERVING
        row.beat(123.5)
        row.count_connections(4)
        row.count_handoff()
        row.cells[0].begin(99.25, "POST", "/upload")
        row.cells[0].name_view("shop.views.upload")
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    status = board.row(1).status()
    assert (status.pid, status.generation, status.state) == (pid, 7, State.SERVING)
    assert status.heartbeat_s == 123.5
    assert (status.connections, status.handoffs) == (4, 1)
    running = RequestStatus(
        started_s=99.25, method="POST", path="/upload", view="shop.views.upload"
    )
    assert status.running == (running,)
    assert status.oldest == running


def test_a_board_that_was_attached_by_descriptor_shares_its_memory() -> None:
    made = Scoreboard.create(4, requests=2)
    attached = Scoreboard.attach(os.dup(made.fd), 4, requests=2)
    attached.row(3).order = Order.STOP
    assert made.row(3).order is Order.STOP
    assert [made.row(slot).order for slot in range(3)] == [Order.NONE] * 3


def test_rows_and_cells_do_not_overlap() -> None:
    board = Scoreboard.create(3, requests=3)
    for slot in range(3):
        row = board.row(slot)
        row.occupy(100 + slot, slot)
        row.order = Order(slot)
        row.state = State.SERVING
        row.beat(float(slot))
        row.count_connections(10 + slot)
        for number, cell in enumerate(row.cells):
            cell.begin(1.0 + slot * 10 + number, "METHOD", f"{slot}{number}" * 132)
            cell.name_view(f"{slot}{number}" * 72)
    for slot in range(3):
        status = board.row(slot).status()
        assert (status.pid, status.generation) == (100 + slot, slot)
        assert (status.order, status.connections) == (Order(slot), 10 + slot)
        assert status.heartbeat_s == float(slot)
        assert status.running == tuple(
            RequestStatus(
                started_s=1.0 + slot * 10 + number,
                method="METHOD",
                path=f"{slot}{number}" * 132,
                view=f"{slot}{number}" * 72,
            )
            for number in range(3)
        )


def test_long_names_are_cut_and_do_not_reach_their_neighbours() -> None:
    board = Scoreboard.create(1, requests=2)
    row = board.row(0)
    row.cells[1].begin(2.0, "GET", "/second")
    row.cells[0].begin(1.0, "GET", "/" + "p" * 5000)
    row.cells[0].name_view("v" * 5000)
    first, second = row.status().running
    assert (first.method, first.path, first.view) == ("GET", "/" + "p" * 267, "v" * 144)
    assert (second.method, second.path, second.view) == ("GET", "/second", "")


def test_a_view_that_is_cut_within_a_character_is_still_readable() -> None:
    row = Scoreboard.create(1).row(0)
    row.cells[0].begin(1.0, "GET", "/caf\xe9")
    row.cells[0].name_view("a" + "é" * 72)
    (running,) = row.status().running
    assert running.path == "/caf\xe9"
    assert running.view.startswith("a" + "é" * 71)


def test_the_view_of_one_request_is_not_that_of_the_next() -> None:
    cell = Scoreboard.create(1).row(0).cells[0]
    row = Scoreboard.create(1).row(0)
    cell = row.cells[0]
    cell.begin(1.0, "GET", "/a")
    cell.name_view("views.a")
    cell.end(failed=False)
    cell.begin(2.0, "GET", "/b")
    (running,) = row.status().running
    assert (running.path, running.view) == ("/b", "")


def test_a_request_has_the_limit_of_its_view_once_that_is_known_and_no_longer_than_it_runs() -> (
    None
):
    row = Scoreboard.create(1).row(0)
    (cell,) = row.cells
    cell.begin(1.0, "GET", "/export")
    assert cell.timeout_s == 0.0
    cell.name_view("views.export", 300.0)
    assert (cell.timeout_s, cell.view, cell.started_s) == (300.0, "views.export", 1.0)
    (running,) = row.status().running
    assert (running.path, running.timeout_s) == ("/export", 300.0)
    cell.end(failed=False)
    cell.begin(2.0, "GET", "/b")
    (running,) = row.status().running
    assert (running.path, running.view, running.timeout_s) == ("/b", "", 0.0)


def test_the_first_request_due_is_not_always_the_oldest() -> None:
    row = Scoreboard.create(1, requests=4).row(0)
    limits = [("/endless", 1.0, math.inf), ("/a", 5.0, 0.0), ("/b", 6.0, 10.0), ("/c", 2.0, 300.0)]
    for cell, (path, started_s, timeout_s) in zip(row.cells, limits, strict=True):
        cell.begin(started_s, "GET", path)
        cell.name_view("view", timeout_s)
    status = row.status()

    def first_due(timeout_s: float) -> str:
        request = status.first_due(timeout_s)
        return request.path if request is not None else ""

    assert status.oldest == status.running[0]
    assert first_due(30.0) == "/b"
    assert first_due(5.0) == "/a"
    assert first_due(0.0) == "/b"
    assert Scoreboard.create(1).row(0).status().first_due(30.0) is None


def test_ends_are_counted_and_only_failures_as_errors() -> None:
    row = Scoreboard.create(1, requests=2).row(0)
    for cell, failed in ((0, False), (0, True), (1, True)):
        row.cells[cell].begin(1.0, "GET", "/")
        row.cells[cell].end(failed=failed)
    status = row.status()
    assert (status.requests, status.errors, status.running) == (3, 2, ())


def test_a_suspended_request_is_not_counted_as_running() -> None:
    row = Scoreboard.create(1).row(0)
    row.cells[0].begin(5.0, "GET", "/stream")
    assert row.cells[0].suspend() == 5.0
    assert row.status().running == ()
    row.cells[0].resume(8.0)
    (running,) = row.status().running
    assert (running.started_s, running.path) == (8.0, "/stream")


def test_the_oldest_request_is_the_one_that_started_first() -> None:
    row = Scoreboard.create(1, requests=3).row(0)
    for cell, started_s in zip(row.cells, (7.0, 3.0, 5.0), strict=True):
        cell.begin(started_s, "GET", f"/{started_s:g}")
    oldest = row.status().oldest
    assert oldest is not None
    assert oldest.path == "/3"


def test_occupying_a_row_forgets_everything_but_the_order() -> None:
    row = Scoreboard.create(1).row(0)
    row.occupy(1, 1)
    row.beat(9.0)
    row.cells[0].begin(1.0, "GET", "/")
    row.cells[0].end(failed=True)
    row.cells[0].begin(1.0, "GET", "/")
    row.order = Order.QUIT
    row.occupy(2, 5)
    status = row.status()
    assert (status.pid, status.generation, status.state) == (2, 5, State.BOOTING)
    assert status.order is Order.QUIT
    assert (status.requests, status.errors, status.heartbeat_s) == (0, 0, 0.0)
    assert status.running == ()


def test_clearing_a_row_forgets_the_order_too_and_nothing_else() -> None:
    board = Scoreboard.create(3)
    for slot in range(3):
        board.row(slot).occupy(slot + 1, 1)
        board.row(slot).order = Order.RETIRE
    board.row(1).clear()
    assert board.row(1).status() == Scoreboard.create(3).row(1).status()
    for slot in (0, 2):
        assert board.row(slot).status().pid == slot + 1
        assert board.row(slot).order is Order.RETIRE


@pytest.mark.parametrize("state", [State.EMPTY, State.BOOTING, State.RETIRING])
def test_a_worker_that_does_not_serve_is_not_idle(state: State) -> None:
    row = Scoreboard.create(1).row(0)
    row.state = state
    assert not row.idle


def test_a_serving_worker_is_idle_while_it_waits() -> None:
    row = Scoreboard.create(2, requests=2).row(1)
    row.words[row.idle_at] = 1
    assert not row.idle
    row.state = State.SERVING
    assert row.idle
    row.words[row.idle_at] = 0
    assert not row.idle


def test_a_row_has_one_handle() -> None:
    board = Scoreboard.create(2)
    assert board.row(1) is board.row(1)
    assert board.row(0) is not board.row(1)


def test_the_descriptor_is_not_inherited_unless_passed_on() -> None:
    assert not os.get_inheritable(Scoreboard.create(1).fd)


def test_a_system_without_memfd_uses_a_file_that_has_no_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    board = Scoreboard.create(2)
    board.row(1).occupy(5, 1)
    assert os.fstat(board.fd).st_nlink == 0
    assert Scoreboard.attach(board.fd, 2).row(1).status().pid == 5


def test_words_are_aligned_so_that_a_store_is_one_store() -> None:
    board = Scoreboard.create(5, requests=3)
    for slot in range(5):
        row = board.row(slot)
        assert row._base * 8 % 64 == 0
        assert all(cell._index * 8 % 64 == 0 for cell in row.cells)
    assert struct.calcsize("d") == struct.calcsize("Q") == 8
