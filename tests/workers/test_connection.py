"""`Connection` as the sink of a response, and what it tells the log."""

from __future__ import annotations

import resource
import socket
import tempfile
from collections.abc import Iterator

import pytest

from django_wsgiserve.protocol.connection import RequestReader
from django_wsgiserve.protocol.messages import Limits
from django_wsgiserve.workers.connection import Connection
from django_wsgiserve.workers.output import OutputQueue
from django_wsgiserve.wsgi.environ import EnvironFactory
from tests.workers.test_output import fill

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def connection(pair: Pair) -> Iterator[Connection]:
    made = Connection(
        pair[0],
        ("192.0.2.7", "4711"),
        EnvironFactory(server_name="s", server_port="1", multithread=False, multiprocess=True),
        RequestReader(Limits()),
        OutputQueue(memory_limit=1000, directory=None),
    )
    made.spool_limit = 1 << 30
    yield made
    made.close()


def test_what_the_client_takes_at_once_is_not_held(connection: Connection, pair: Pair) -> None:
    assert connection.send(b"hello")
    assert pair[1].recv(10) == b"hello"
    assert not connection.output.items
    assert connection.sent_bytes == 5


def test_what_the_client_does_not_take_is_held_in_order(connection: Connection, pair: Pair) -> None:
    filled = fill(pair[0])
    assert connection.send(b"first")
    assert connection.send(b"second")
    assert connection.sent_bytes == 0
    while filled:
        filled -= len(pair[1].recv(filled))
    assert connection.send(b"third")
    assert pair[1].recv(100) == b"firstsecondthird"
    assert connection.sent_bytes == 16


def test_nothing_more_is_sent_to_a_client_that_left(connection: Connection, pair: Pair) -> None:
    pair[1].close()
    assert not connection.send(b"x")
    assert connection.gone
    assert not connection.send(b"x")
    assert not connection.send_file(0, 0, 1)


def test_a_client_that_leaves_while_bytes_are_held_for_it_is_noticed(
    connection: Connection, pair: Pair
) -> None:
    fill(pair[0])
    assert connection.send(b"held")
    pair[1].close()
    assert not connection.send(b"more")
    assert connection.gone
    assert connection.output.held_bytes == 0


def test_a_file_for_which_there_is_no_descriptor_breaks_off_the_response(
    connection: Connection,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tempfile.TemporaryFile() as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            sent = connection.send_file(file.fileno(), 0, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not sent
    assert connection.gone


def test_a_full_queue_without_anybody_to_relieve_it_only_grows(
    connection: Connection, pair: Pair
) -> None:
    connection.spool_limit = 1
    fill(pair[0])
    assert connection.send(b"held")
    assert connection.output.held_bytes == 4


def test_a_request_that_never_became_one_is_499(connection: Connection) -> None:
    connection.reader.receive(b"GET /part")
    connection.started_s = 50.0
    event = connection.finished(53.0, 1000.0)
    assert (event.status, event.aborted, event.sent_bytes) == (499, True, 0)
    assert event.request_line == "GET /part"
    assert (event.started_at_s, event.duration_s) == (1050.0, 3.0)
    assert (event.peer, event.environ, event.headers) == ("192.0.2.7", None, [])
