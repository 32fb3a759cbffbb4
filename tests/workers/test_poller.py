"""Both pollers, as far as a reactor can tell them apart."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from django_wsgiserve.workers.poller import (
    HUNG_UP,
    READABLE,
    WRITABLE,
    EpollPoller,
    SelectorsPoller,
    new_poller,
)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def watched(poller: type[EpollPoller | SelectorsPoller]) -> Iterator[EpollPoller | SelectorsPoller]:
    made = poller()
    yield made
    made.close()


def fill(server: socket.socket) -> int:
    """Send until the client's buffer takes no more; return how much it took."""
    taken = 0
    try:
        while True:
            taken += server.send(b"x" * 65536)
    except BlockingIOError:
        return taken


def ready(watched: EpollPoller | SelectorsPoller) -> dict[int, int]:
    return dict(watched.wait(0.0, 64))


def test_the_numbers_are_those_of_epoll() -> None:
    assert READABLE == select.EPOLLIN
    assert WRITABLE == select.EPOLLOUT
    assert HUNG_UP == select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP


def test_a_client_that_sent_is_readable(watched: EpollPoller | SelectorsPoller, pair: Pair) -> None:
    server, client = pair
    watched.add_client(server.fileno())
    ready(watched)
    client.send(b"x")
    assert ready(watched)[server.fileno()] & READABLE


def test_what_had_come_before_the_registration_is_reported(
    watched: EpollPoller | SelectorsPoller, pair: Pair
) -> None:
    server, client = pair
    client.send(b"x")
    watched.add_client(server.fileno())
    assert ready(watched)[server.fileno()] & READABLE


def test_a_client_that_left_is_readable_or_hung_up(
    watched: EpollPoller | SelectorsPoller, pair: Pair
) -> None:
    server, client = pair
    watched.add_client(server.fileno())
    ready(watched)
    client.close()
    assert ready(watched)[server.fileno()] & (READABLE | HUNG_UP)


def test_room_in_a_full_socket_is_reported_to_who_wants_to_write(
    watched: EpollPoller | SelectorsPoller, pair: Pair
) -> None:
    server, client = pair
    watched.add_client(server.fileno())
    ready(watched)
    taken = fill(server)
    watched.want_write(server.fileno(), True)
    assert not ready(watched).get(server.fileno(), 0) & WRITABLE
    while taken:
        taken -= len(client.recv(1 << 20))
    assert ready(watched)[server.fileno()] & WRITABLE
    watched.want_write(server.fileno(), False)
    assert ready(watched) == {}


def test_a_client_that_is_not_read_is_not_reported_again(
    watched: EpollPoller | SelectorsPoller, pair: Pair
) -> None:
    server, client = pair
    watched.add_client(server.fileno())
    client.send(b"x")
    assert ready(watched)
    watched.want_read(server.fileno(), False)
    watched.want_read(server.fileno(), False)
    assert ready(watched) == {}


def test_a_paused_client_that_is_wanted_again_is_reported(
    watched: EpollPoller | SelectorsPoller, pair: Pair
) -> None:
    server, client = pair
    watched.add_client(server.fileno())
    ready(watched)
    watched.want_read(server.fileno(), False)
    watched.want_read(server.fileno(), True)
    client.send(b"x")
    assert ready(watched)[server.fileno()] & READABLE


@pytest.mark.parametrize("paused", [False, True])
def test_a_removed_client_is_not_reported(
    watched: EpollPoller | SelectorsPoller, pair: Pair, paused: bool
) -> None:
    server, client = pair
    watched.add_client(server.fileno())
    if paused:
        watched.want_read(server.fileno(), False)
    watched.remove(server.fileno())
    client.send(b"x")
    assert ready(watched) == {}
    watched.add_client(server.fileno())
    assert ready(watched)[server.fileno()] & READABLE


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_source_is_reported_until_it_is_read(
    watched: EpollPoller | SelectorsPoller, pair: Pair, exclusive: bool
) -> None:
    server, client = pair
    watched.add_source(server.fileno(), exclusive=exclusive)
    assert ready(watched) == {}
    client.send(b"x")
    assert ready(watched) == ready(watched) == {server.fileno(): READABLE}
    server.recv(1)
    assert ready(watched) == {}
    watched.remove(server.fileno())


def test_writing_and_reading_are_wanted_independently(pair: Pair) -> None:
    server, client = pair
    watched = SelectorsPoller()
    watched.add_client(server.fileno())
    watched.want_read(server.fileno(), False)
    watched.want_write(server.fileno(), True)
    client.send(b"x")
    assert ready(watched) == {server.fileno(): WRITABLE}
    watched.want_read(server.fileno(), True)
    assert ready(watched) == {server.fileno(): READABLE | WRITABLE}
    watched.want_write(server.fileno(), False)
    assert ready(watched) == {server.fileno(): READABLE}
    watched.close()


def test_epoll_is_chosen_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = new_poller()
    assert isinstance(chosen, EpollPoller)
    assert chosen.fileno() > 2
    chosen.close()
    monkeypatch.delattr(select, "epoll")
    elsewhere = new_poller()
    assert isinstance(elsewhere, SelectorsPoller)
    elsewhere.close()
