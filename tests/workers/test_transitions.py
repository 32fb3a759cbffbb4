"""The table of a connection's states: each change it lists happens, and no other does.

That no other does is checked by every test of this ring, see `CheckedConnection`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from django_wsgiserve.workers.connection import READING, TRANSITIONS, State
from django_wsgiserve.workers.poller import READABLE
from tests.workers.http_client import AnswerReader, ask, get, post, reset
from tests.workers.served import CheckedConnection, Served, hello
from tests.workers.test_slow_readers import large, only
from tests.workers.test_waiting import LONG_S, Busy, let_wait

Serve = Callable[..., Served]
Scenario = Callable[[Serve], None]

HEAD_PART = b"POST / HTTP/1.1\r\nHost: t\r\n"


def idle_head(serve: Serve) -> None:
    """A head that comes in parts, and every way out of it."""
    served = serve()
    for rest in (b"\r\n", b"Content-Length: 4\r\n\r\nbo", b"No Field\r\n\r\n"):
        with served.connect() as client:
            client.sendall(HEAD_PART)
            served.wait_until(lambda: only(served, State.HEAD) is not None)
            client.sendall(rest)
            served.wait_until(lambda: only(served, State.HEAD) is None)
    client = served.connect()
    client.sendall(HEAD_PART)
    served.wait_until(lambda: only(served, State.HEAD) is not None)
    reset(client)
    served.wait_until(lambda: not served.reactor._traffic.connections)


def idle_at_once(serve: Serve) -> None:
    """All that can come in one piece."""
    served = serve()
    for sent in (get("/"), post("/", b"body"), b"NOT HTTP\r\n\r\n"):
        with served.pair() as client:
            assert ask(client, sent).status in (200, 400)
    served.pair().close()
    served.wait_until(lambda: not served.reactor._traffic.connections)


def body(serve: Serve) -> None:
    """A body that is whole, one that is refused, one whose sender leaves."""
    served = serve(limit_request_body=100)
    chunked = b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    for rest in (b"0\r\n\r\n", b"fff\r\n"):
        with served.connect() as client:
            client.sendall(chunked)
            served.wait_until(lambda: only(served, State.BODY) is not None)
            client.sendall(rest)
            AnswerReader(client).read()
    client = served.connect()
    client.sendall(chunked)
    served.wait_until(lambda: only(served, State.BODY) is not None)
    reset(client)
    served.wait_until(lambda: not served.reactor._traffic.connections)


def queued(serve: Serve) -> None:
    """Heads that are completed together, and a quick end before any is served."""
    served = serve()
    clients = [served.pair() for _ in range(2)]
    for client in clients:
        client.sendall(HEAD_PART)
    traffic = served.reactor._traffic
    served.wait_until(
        lambda: [c.state for c in traffic.connections.values()] == [State.HEAD, State.HEAD]
    )

    def complete_and_quit() -> None:
        for client in clients:
            client.sendall(b"\r\n")
        for connection in traffic.connections.values():
            traffic.on_event(connection, READABLE)
        served.reactor.quit()

    served.call(complete_and_quit)
    served.join()
    for client in clients:
        client.close()
    assert [event.status for event in served.finished(2)] == [499, 499]


def too_late(serve: Serve) -> None:
    """A request that waits for a slot for longer than it may."""
    application = Busy()
    served = serve(application, max_queue_wait_s=LONG_S)
    with served.pair() as client, application.occupy(served):
        client.sendall(get("/late"))
        let_wait(served, 1)
        assert AnswerReader(client).read().status == 503


def running(serve: Serve) -> None:
    """Every way out of the application."""
    served = serve()
    with served.pair() as client:
        ask(client, get("/"))
        ask(client, get("/", "Connection: close"))
    with served.pair() as client:
        client.sendall(get("/", "Connection: close") + b"more")
        AnswerReader(client).read_to_end()
    flushing(serve)


def flushing(serve: Serve) -> None:
    """Every way out of a response that its client takes slowly."""
    served = serve(large)
    for fields, more in (((), b""), (("Connection: close",), b"more")):
        with served.connect() as client:
            client.sendall(get("/large", *fields) + more)
            served.wait_until(lambda: only(served, State.FLUSHING) is not None)
            AnswerReader(client).read()
    client = served.connect()
    client.sendall(get("/large"))
    served.wait_until(lambda: only(served, State.FLUSHING) is not None)
    reset(client)
    served.wait_until(lambda: not served.reactor._traffic.connections)


def lingering(serve: Serve) -> None:
    """A client that is refused while it sends, and leaves."""
    served = serve()
    with served.pair() as client:
        client.sendall(b"NOT HTTP\r\n\r\n")
        AnswerReader(client).read_to_end()
    served.wait_until(lambda: not served.reactor._traffic.connections)


SCENARIOS: dict[State, tuple[Scenario, ...]] = {
    State.IDLE: (idle_head, idle_at_once),
    State.HEAD: (idle_head,),
    State.BODY: (body,),
    State.QUEUED: (queued, idle_at_once, too_late),
    State.RUNNING: (running,),
    State.FLUSHING: (flushing,),
    State.LINGERING: (lingering,),
    State.CLOSED: (),
}


@pytest.mark.parametrize("before", State, ids=lambda state: state.name)
def test_every_listed_change_of_state_happens(
    serve: Serve, before: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CheckedConnection, "seen", set())
    for scenario in SCENARIOS[before]:
        scenario(serve)
    happened = {after for state, after in CheckedConnection.seen if state is before}
    assert happened == TRANSITIONS[before]


def test_the_table_has_every_state_and_an_end() -> None:
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.CLOSED] == frozenset()
    endless = {state for state, after in TRANSITIONS.items() if State.CLOSED not in after}
    assert endless == {State.RUNNING, State.CLOSED}, "a running request ends in its own thread"
    assert set(READING) <= set(State)


def test_a_change_that_is_not_listed_is_noticed(serve: Serve) -> None:
    served = serve(hello)
    with served.pair() as client:
        ask(client, get("/"))
        served.wait_until(lambda: only(served, State.IDLE) is not None)
        (connection,) = served.connections()
        with pytest.raises(AssertionError, match="IDLE became RUNNING"):
            connection.state = State.RUNNING
