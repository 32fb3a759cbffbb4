"""The queue of connections between workers: what travels, what stays, and what gets lost never."""

from __future__ import annotations

import array
import os
import resource
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsgiserve.protocol.connection import RequestReader
from django_wsgiserve.protocol.messages import Limits
from django_wsgiserve.workers.connection import Connection, State
from django_wsgiserve.workers.handoff import Handoff, can_travel
from django_wsgiserve.workers.output import OutputQueue
from django_wsgiserve.workers.poller import EpollPoller
from django_wsgiserve.wsgi.environ import EnvironFactory
from tests.workers.conftest import open_descriptors
from tests.workers.http_client import ask, get
from tests.workers.served import DEADLINE_S, Place, Served

ENVIRONS = EnvironFactory(
    server_name="test", server_port="80", multithread=False, multiprocess=True
)
LIMITS = Limits(request_line=8190, fields=100, field_size=8190, body=0)
EPOLL_WAIT = {"232", "281", "22"}
"""The numbers of epoll_wait(2) and epoll_pwait(2), on x86-64 and aarch64."""
Pair = tuple[socket.socket, socket.socket]


@contextmanager
def queue(*, gives: bool = True) -> Iterator[tuple[Handoff, Handoff]]:
    """Open a queue with two workers at it."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    handoffs = [
        Handoff(os.dup(ends[0].fileno()), os.dup(ends[1].fileno()), gives=gives) for _ in range(2)
    ]
    for end in ends:
        end.close()
    yield handoffs[0], handoffs[1]
    for handoff in handoffs:
        handoff.close()


@pytest.fixture
def two() -> Iterator[tuple[Handoff, Handoff]]:
    """Return the ends of two workers."""
    with queue() as handoffs:
        yield handoffs


def connection_of(sock: socket.socket, *, name: str = "127.0.0.1:80") -> Connection:
    """Return an idle connection as a worker has it."""
    output = OutputQueue(memory_limit=1024, directory=None)
    connection = Connection(sock, ("192.0.2.7", "4711"), ENVIRONS, RequestReader(LIMITS), output)
    connection.listener_name = name
    connection.deadline_s = 12345.5
    return connection


def descriptors() -> Counter[str]:
    """Count this process's descriptors by what they are: the reserve may get another number."""
    found: Counter[str] = Counter()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists the directory
            found[str(entry.readlink())] += 1
    return found


@pytest.mark.parametrize("name", ["127.0.0.1:80", "[fe80::1%eth0]:8000", "unix:/" + "é\udcff" * 53])
def test_what_is_known_of_a_connection_travels_with_it(
    two: tuple[Handoff, Handoff], pair: Pair, name: str
) -> None:
    server, client = pair
    assert two[0].give(connection_of(server, name=name))
    server.close()
    arrival = two[1].take()
    assert arrival is not None
    assert (arrival.peer, arrival.listener_name) == (("192.0.2.7", "4711"), name)
    assert arrival.deadline_s == 12345.5
    with arrival.sock as sock:
        sock.sendall(b"here I am")
        assert not sock.get_inheritable(), "a child of the project would have it, too"
    assert client.recv(100) == b"here I am"
    assert two[1].take() is None


def test_they_leave_the_queue_in_the_order_they_came(
    two: tuple[Handoff, Handoff], pair: Pair
) -> None:
    names = [f"unix:/{number}" for number in range(50)]
    for name in names:
        assert two[0].give(connection_of(pair[0], name=name))
    for number, name in enumerate(names):
        arrival = two[number % 2].take()
        assert arrival is not None
        assert arrival.listener_name == name
        arrival.sock.close()


def test_a_full_queue_takes_no_more_until_there_is_room(
    two: tuple[Handoff, Handoff], pair: Pair
) -> None:
    connection = connection_of(pair[0])
    given = 0
    while two[0].give(connection):
        given += 1
    assert given > 100, "ten is what datagrams would do"
    assert two[0].refused is None, "it is not for ever"
    arrival = two[1].take()
    assert arrival is not None
    arrival.sock.close()
    assert two[0].give(connection)


def leave_descriptors(count: int) -> list[int]:
    """Use up this process's descriptors but for `count`; return those to be closed."""
    used = []
    while True:
        try:
            used.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            break
    for _ in range(count):
        os.close(used.pop())
    return used


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """Lower the limit to what can be used up quickly."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 50, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_descriptors")
@pytest.mark.parametrize("left", [0, 1, 2])
def test_no_connection_is_taken_that_there_is_no_descriptor_for(left: int) -> None:
    with queue() as (giver, taker):
        pairs = [socket.socketpair() for _ in range(5)]
        for server, _ in pairs:
            assert giver.give(connection_of(server))
            server.close()
        used = leave_descriptors(left)
        arrivals = []
        while (arrival := taker.take()) is not None:
            arrivals.append(arrival)
        assert taker.starved
        assert len(arrivals) == left + 1, "the reserve is good for one"
        for fd in used:
            os.close(fd)
        while (arrival := taker.take()) is not None:
            arrivals.append(arrival)
        assert not taker.starved
        assert len(arrivals) == 5
        for (_, client), arrival in zip(pairs, arrivals, strict=True):
            arrival.sock.sendall(b"served")
            assert client.recv(100) == b"served"
            arrival.sock.close()
            client.close()


def test_who_gives_nothing_takes_all_the_same(pair: Pair) -> None:
    with queue(gives=False) as (other, taker):
        connection = connection_of(pair[0])
        assert not other.give(connection)
        assert other.take() is None
        other.gives = True
        assert other.give(connection)
        arrival = taker.take()
        assert arrival is not None
        arrival.sock.close()


def test_a_refusal_of_the_system_is_for_ever(two: tuple[Handoff, Handoff], pair: Pair) -> None:
    connection = connection_of(pair[0])
    two[0]._sender.shutdown(socket.SHUT_RDWR)
    assert not two[0].give(connection)
    assert isinstance(two[0].refused, BrokenPipeError)
    assert not two[0].give(connection)


@given(message=st.binary(max_size=300), with_descriptor=st.booleans())
def test_whatever_is_found_in_the_queue_harms_nobody(message: bytes, with_descriptor: bool) -> None:
    with queue() as (sender, taker):
        before = descriptors()
        read_fd, write_fd = os.pipe()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [read_fd, write_fd]))]
        sender._sender.sendmsg([message or b"[]"], rights if with_descriptor else [])
        assert taker.take() is None
        assert taker.mishap
        os.close(read_fd)
        os.close(write_fd)
        assert not descriptors() - before


def gone(connection: Connection) -> None:
    connection.gone = True


def silent(connection: Connection) -> None:
    connection.silent = True


def half_read(connection: Connection) -> None:
    connection.reader.receive(b"GET")


def half_sent(connection: Connection) -> None:
    connection.output.add(memoryview(b"and more"))


def running(connection: Connection) -> None:
    connection.state = State.QUEUED
    connection.state = State.RUNNING


@pytest.mark.parametrize("change", [gone, silent, half_read, half_sent, running])
def test_what_is_held_in_this_process_keeps_a_connection_here(
    two: tuple[Handoff, Handoff], pair: Pair, change: Callable[[Connection], None]
) -> None:
    connection = connection_of(pair[0])
    assert can_travel(connection)
    change(connection)
    assert not two[0].give(connection)
    assert two[1].take() is None
    assert two[0].refused is None


def test_a_connection_with_a_session_of_its_own_stays(
    two: tuple[Handoff, Handoff], pair: Pair
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with context.wrap_socket(pair[0], server_side=True, do_handshake_on_connect=False) as wrapped:
        assert not two[0].give(connection_of(wrapped))
    assert two[1].take() is None


class Sleeper:
    """A process that is woken instead of others, and then does nothing."""

    def __init__(self, sock: socket.socket) -> None:
        """Watch: of those that share an exclusive wake-up, who came first gets it."""
        self._epoll = select.epoll()
        self._epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self._woken = False
        self._thread = threading.Thread(target=self._sleep, daemon=True)
        self._thread.start()
        task = Path(f"/proc/self/task/{self._thread.native_id}")
        deadline_s = time.monotonic() + DEADLINE_S
        while (task / "syscall").read_text().split()[0] not in EPOLL_WAIT:
            assert time.monotonic() < deadline_s

    def _sleep(self) -> None:
        self._woken = bool(self._epoll.poll(DEADLINE_S))

    def close(self) -> None:
        """Wait until it was woken."""
        self._thread.join()
        self._epoll.close()
        assert self._woken


@pytest.mark.parametrize("poller", [EpollPoller], indirect=True, ids=["epoll"])
def test_a_connection_is_taken_although_another_worker_was_woken_for_it(
    build: Callable[..., Served], request_slots: int, pair: Pair
) -> None:
    with queue() as (giver, taker):
        sleeper = Sleeper(taker._receiver)
        served = build(place=Place(request_slots=request_slots, handoff=taker)).start()
        served.call(lambda: None)
        assert giver.give(connection_of(pair[0], name=served.listeners[0].name))
        pair[0].close()
        sleeper.close()
        assert ask(pair[1], get("/found")).body == b"/found"
        served.close()


@pytest.mark.parametrize("poller", [EpollPoller], indirect=True, ids=["epoll"])
def test_a_client_is_accepted_although_another_worker_was_woken_for_it(
    build: Callable[..., Served],
) -> None:
    served = build()
    sleeper = Sleeper(served.listeners[0].socket)
    served.start()
    served.call(lambda: None)
    with served.connect() as client:
        sleeper.close()
        assert ask(client, get("/found")).body == b"/found"
