"""Connections that move between two workers, and requests that outrun TIMEOUT."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from django_wsgiserve.events import Notice, RequestFinished
from django_wsgiserve.scoreboard import Scoreboard, State
from django_wsgiserve.workers.handoff import Handoff
from tests.workers.conftest import open_descriptors
from tests.workers.http_client import AnswerReader, ask, get
from tests.workers.served import Place, Served, hello
from tests.workers.test_deadlines import Held

Build = Callable[..., Served]


@dataclass
class Two:
    """Two reactors with one queue between them; only the first has a client's connection."""

    first: Served
    second: Served
    board: Scoreboard


@pytest.fixture
def two(build: Build, request_slots: int) -> Iterator[Callable[[], Two]]:
    """Return a function that starts two workers, the first with an application that holds."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    board = Scoreboard.create(2, 16)

    handoffs: list[Handoff] = []

    def start() -> Two:
        served = []
        for slot in range(2):
            handoffs.append(Handoff(os.dup(ends[0].fileno()), os.dup(ends[1].fileno())))
            place = Place(
                request_slots=request_slots,
                handoff=handoffs[slot],
                board=board,
                slot=slot,
            )
            served.append(build(Held() if slot == 0 else hello, place=place))
        # Found by the name of its listener, which both of a server's workers have.
        served[1].reactor._listeners[served[0].listeners[0].name] = served[1].listeners[0]
        for slot, one in enumerate(served):
            board.row(slot).occupy(os.getpid(), 1)
            board.row(slot).state = State.SERVING
            one.start()
        return Two(served[0], served[1], board)

    yield start
    for handoff in handoffs:
        handoff.close()
    for end in ends:
        end.close()
    os.close(board.fd)


@contextlib.contextmanager
def occupied(served: Served, application: Held) -> Iterator[list[socket.socket]]:
    """Yield the clients whose requests take every slot; they go on when the test is over."""
    with contextlib.ExitStack() as clients:
        occupants = []
        for _ in range(served.request_slots):
            application.running.clear()
            occupants.append(clients.enter_context(served.pair()))
            application.hold(served, occupants[-1])
        yield occupants
        application.go_on.set()


def paths(served: Served) -> set[str]:
    """Return what a worker has answered so far."""
    return {one.request.path for one in served.of(RequestFinished) if one.request is not None}


def take_nothing(served: Served) -> None:
    """Let a worker neither accept nor take."""

    def close() -> None:
        served.reactor._opened = False
        served.reactor._stop_accepting()

    served.call(close)


def test_a_connection_whose_worker_is_busy_is_served_by_another(two: Callable[[], Two]) -> None:
    pair = two()
    application = pair.first.reactor._site.gateway._application
    assert isinstance(application, Held)
    with pair.first.connect() as client:
        reader = AnswerReader(client)
        client.sendall(get("/before"))
        assert reader.read().status == 200
        with occupied(pair.first, application) as occupants:
            for number in range(3):
                client.sendall(get(f"/{number}"))
                answer = reader.read()
                assert (answer.status, answer.body, answer.closes) == (
                    200,
                    f"/{number}".encode(),
                    False,
                )
            pair.second.wait_until(lambda: {"/0", "/1", "/2"} <= paths(pair.second))
            # Counted after the descriptor was sent.
            pair.first.wait_until(lambda: pair.board.row(0).status().handoffs >= 1)
            application.go_on.set()
            for occupant in occupants:
                assert AnswerReader(occupant).read().body == b"/held"


def test_an_idle_connection_outlives_the_worker_it_was_made_with(two: Callable[[], Two]) -> None:
    pair = two()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(pair.first.connect()) for _ in range(50)]
        for client in clients:
            assert ask(client, get("/before")).closes is False
        pair.first.retire(stop=False)
        pair.first.join()
        for client in clients:
            answer = ask(client, get("/after"))
            assert (answer.body, answer.closes) == (b"/after", False)
    pair.second.wait_until(lambda: not pair.second.reactor._traffic.connections)


def test_a_stop_takes_what_waits_in_the_queue(two: Callable[[], Two]) -> None:
    pair = two()
    with pair.first.connect() as client:
        ask(client, get("/before"))
        take_nothing(pair.second)
        pair.first.retire(stop=False)
        pair.first.join()
        client.sendall(get("/after"))

        def stop() -> None:
            pair.second.reactor._opened = True
            pair.second.reactor.retire(stop=True)

        pair.second.call(stop)
        answer = AnswerReader(client).read()
        assert (answer.body, answer.closes) == (b"/after", True)
        pair.second.join()


def test_no_descriptor_is_left_by_connections_that_moved(two: Callable[[], Two]) -> None:
    pair = two()
    # Counted by what they are: a reserve may get another number each time.
    before = Counter(open_descriptors().values())
    for client in [pair.first.connect() for _ in range(20)]:
        with client:
            ask(client, get("/before"))
    pair.first.wait_until(lambda: not pair.first.reactor._traffic.connections)
    pair.second.wait_until(lambda: not pair.second.reactor._traffic.connections)
    assert not Counter(open_descriptors().values()) - before


def test_a_connection_stays_where_nobody_else_serves(two: Callable[[], Two]) -> None:
    pair = two()
    with pair.first.connect() as client:
        ask(client, get("/before"))
        pair.board.row(1).state = State.RETIRING
        pair.first.retire(stop=False)
        assert ask(client, get("/first")).closes is False
        pair.board.row(1).state = State.SERVING
        pair.first.join()
        assert ask(client, get("/second")).closes is False
        assert len(pair.first.finished(2)) == 2
        assert len(pair.second.finished(1)) == 1


def test_a_worker_takes_back_what_nobody_will_take_any_more(two: Callable[[], Two]) -> None:
    """All leave together: the others may have had their last look into the queue."""
    pair = two()
    application = pair.first.reactor._site.gateway._application
    assert isinstance(application, Held)
    take_nothing(pair.second)
    with pair.first.connect() as client, pair.first.pair() as occupant:
        ask(client, get("/before"))
        occupant.sendall(get("/held", "Connection: close"))
        assert application.running.wait(20)
        pair.first.retire(stop=False)
        pair.first.wait_until(lambda: pair.board.row(0).status().handoffs == 1)
        pair.board.row(1).state = State.RETIRING
        application.go_on.set()
        assert AnswerReader(occupant).read().closes
        assert ask(client, get("/after")).status == 200
        assert len(pair.first.finished(3)) == 3
    pair.first.join()


def test_what_cannot_travel_keeps_nothing_else_from_leaving(two: Callable[[], Two]) -> None:
    pair = two()
    application = pair.first.reactor._site.gateway._application
    assert isinstance(application, Held)
    with pair.first.pair(silent=True) as probe, pair.first.connect() as client:
        for one in (probe, client):
            ask(one, get("/before"))
        with occupied(pair.first, application):
            probe.sendall(get("/probe"))
            pair.first.wait_until(lambda: bool(pair.first.reactor._traffic.ready))
            assert ask(client, get("/elsewhere")).body == b"/elsewhere"
            pair.second.wait_until(lambda: "/elsewhere" in paths(pair.second))
            application.go_on.set()
            assert AnswerReader(probe).read().status == 200


def test_a_system_that_passes_no_descriptors_is_told_once_and_served(
    build: Build, request_slots: int
) -> None:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    handoff = Handoff(os.dup(ends[0].fileno()), os.dup(ends[1].fileno()))
    served = build(place=Place(request_slots=request_slots, handoff=handoff)).start()
    with served.connect() as client, served.connect() as other:
        ask(client, get("/before"))
        ask(other, get("/before"))
        handoff._sender.shutdown(socket.SHUT_RDWR)  # EPIPE, as a filter's EPERM would be
        served.retire(stop=False)
        served.wait_for(Notice)
        served.wait_until(lambda: not served.reactor._keeps_alive)
        for one in (client, other):
            assert ask(one, get("/after")).closes
    served.join()
    assert len(served.of(Notice)) == 1
    handoff.close()
    for end in ends:
        end.close()


def test_a_request_over_timeout_gets_a_503_and_its_stack_is_told(build: Build) -> None:
    application = Held()
    served = build(application, timeout_s=0.1).start()
    with served.pair() as stuck:
        application.hold(served, stuck)
        reader = AnswerReader(stuck)
        answer = reader.read()
        assert (answer.status, answer.closes) == (503, True)
        assert reader.read_to_end() == b""
        (finished,) = served.finished()
        assert (finished.status, finished.aborted) == (503, True)
        (notice,) = served.wait_for(Notice)
        assert "GET /held" in notice.message
        assert "go_on.wait" in notice.detail
        assert served.timed_out == ["GET /held"]
        application.go_on.set()
        served.wait_until(lambda: not served.reactor._traffic.connections)
    assert len(served.finished()) == 1, "its thread has logged it again"


def test_no_wake_up_is_lost_between_threads(build: Build) -> None:
    """Many short requests over few connections: one that is overlooked stands still."""
    served = build().start()
    failures: list[BaseException] = []

    def ask_often() -> None:
        try:
            with served.connect() as client:
                reader = AnswerReader(client)
                for number in range(300):
                    client.sendall(get(f"/{number}") + get(f"/{number}/more"))
                    assert reader.read().body == f"/{number}".encode()
                    assert reader.read().body == f"/{number}/more".encode()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=ask_often) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
    served.finished(3600)
