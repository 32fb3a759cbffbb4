"""Connections that were answered for the last time, and whose clients go on all the same.

They are read for a while, so that the answer is not destroyed on its way (RFC 9112 section
9.6), and that costs nobody else a request thread or the lead.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

import pytest

from django_wsgiserve.workers import answers as answers_module
from django_wsgiserve.workers.connection import State
from tests.workers.http_client import AnswerReader, ask, get
from tests.workers.served import Served

Serve = Callable[..., Served]


def lingering(served: Served) -> int:
    """Return how many connections linger; call it in the loop's thread."""
    connections = served.reactor._traffic.connections.values()
    return sum(c.state is State.LINGERING for c in connections)


@pytest.fixture(autouse=True)
def linger_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no connection of a test end by its deadline."""
    monkeypatch.setattr(answers_module, "_LINGER_S", 600.0)


def test_more_lingering_connections_than_slots_delay_nobody(serve: Serve) -> None:
    served = serve()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.connect()) for _ in range(8)]
        for client in clients:
            client.sendall(b"NOT HTTP\r\n\r\n")
            assert AnswerReader(client).read().status == 400
        served.wait_until(lambda: lingering(served) == len(clients))
        other = stack.enter_context(served.connect())
        for number in range(50):
            assert ask(other, get(f"/{number}")).body == b"/%d" % number
        assert served.call(lambda: lingering(served)) == len(clients)


def test_lingering_clients_that_send_without_end_delay_nobody(serve: Serve) -> None:
    served = serve()
    over = threading.Event()

    def flood(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                client.sendall(b"x" * 65536)

    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(served.connect()) for _ in range(6)]
        threads = [threading.Thread(target=flood, args=(client,)) for client in clients]
        for client in clients:
            client.sendall(b"NOT HTTP\r\n\r\n")
            assert AnswerReader(client).read().status == 400
        served.wait_until(lambda: lingering(served) == len(clients))
        for thread in threads:
            thread.start()
        try:
            with served.connect() as other:
                for number in range(50):
                    assert ask(other, get(f"/{number}")).body == b"/%d" % number
        finally:
            over.set()
            for client in clients:
                client.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def test_a_lingering_connection_ends_with_its_client(serve: Serve) -> None:
    served = serve()
    with served.connect() as client:
        client.sendall(b"NOT HTTP\r\n\r\n")
        assert AnswerReader(client).read().status == 400
        served.wait_until(lambda: lingering(served) == 1)
    served.wait_until(lambda: not served.reactor._traffic.connections)
