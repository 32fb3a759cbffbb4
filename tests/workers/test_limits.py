"""No room and no descriptors: the kernel's queue is the back-pressure, and it ends."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from django_wsgiserve.events import ERROR, EventBus, Notice
from django_wsgiserve.sockets import Listener
from django_wsgiserve.workers.acceptor import Acceptor
from tests.workers.applications import digest
from tests.workers.conftest import open_descriptors
from tests.workers.http_client import AnswerReader, ask, get, post
from tests.workers.served import Served, listen

Serve = Callable[..., Served]


@contextmanager
def no_descriptors_left() -> Iterator[list[int]]:
    """Take every descriptor of the process; what is closed of those yielded is free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 8, hard))
    taken: list[int] = []
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        yield taken
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)


def test_a_full_worker_leaves_connections_in_the_backlog_until_one_leaves(serve: Serve) -> None:
    served = serve(worker_connections=2)
    with served.connect() as first, served.connect() as second:
        ask(first, get("/1"))
        ask(second, get("/2"))
        with served.connect() as third:
            third.sendall(get("/3"))
            assert len(served.connections()) == 2
            assert not served.call(lambda: served.reactor._accepting)
            first.close()
            assert AnswerReader(third).read().body == b"/3"


def test_a_full_worker_serves_those_it_has(serve: Serve) -> None:
    served = serve(worker_connections=1)
    with served.connect() as client, served.connect() as waiting:
        for _ in range(5):
            assert ask(client, get("/")).status == 200
        waiting.sendall(get("/"))
        assert ask(client, get("/")).status == 200


def test_a_worker_without_descriptors_says_so_stops_accepting_and_recovers(
    serve: Serve,
) -> None:
    served = serve()
    with served.connect() as client:
        ask(client, get("/before"))
        waiting = [socket.socket() for _ in range(3)]
        with no_descriptors_left() as taken:
            for sock in waiting:
                sock.settimeout(20)
                sock.connect(("127.0.0.1", served.port))
                sock.sendall(get("/waiting"))
            notice = served.wait_for(Notice)[0]
            assert notice.level == ERROR
            assert "cannot accept on 127.0.0.1" in notice.message
            assert "ulimit -n" in notice.message
            assert not served.call(lambda: served.reactor._accepting)
            assert ask(client, get("/meanwhile")).body == b"/meanwhile"
            for _ in range(4):
                os.close(taken.pop())
            for sock in waiting:
                assert AnswerReader(sock).read().body == b"/waiting"
        for sock in waiting:
            sock.close()
    first, second = served.wait_for(Notice, 2)
    assert (first, second.message) == (notice, "accepting connections again")


def test_a_body_for_which_no_file_can_be_opened_gets_a_503(serve: Serve) -> None:
    served = serve(digest, spool_memory=10)
    with served.connect() as client:
        ask(client, get("/"))
        client.sendall(post("/", b"x" * 100)[:-100])
        with no_descriptors_left():
            client.sendall(b"x" * 100)
            assert AnswerReader(client).read().status == 503


class _Refusing(socket.socket):
    """A listening socket whose accept fails as a system's does."""

    error = errno.ENFILE

    def _accept(self) -> tuple[int, object]:
        raise OSError(self.error, os.strerror(self.error))


@pytest.mark.parametrize("error", [errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_every_lack_of_resources_is_waited_out(error: int) -> None:
    notices: list[Notice] = []
    events = EventBus()
    events.subscribe(Notice, notices.append)
    sock = _Refusing(fileno=listen().socket.detach())
    sock.error = error
    with sock:
        given = listen()
        given.close()
        acceptor = Acceptor((replace(given, socket=sock),), events, lambda *_: None)
        (source,) = acceptor.sources()
        source[1]()
        source[1]()
        assert len(notices) == 1, "said once, not for each client"
        assert acceptor.refused(100.0)
        assert acceptor.retry_at_s > 100.0
        assert not acceptor.refused(100.0)


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.ECONNABORTED])
def test_a_connection_that_went_elsewhere_is_nobodys_trouble(error: int) -> None:
    notices: list[Notice] = []
    events = EventBus()
    events.subscribe(Notice, notices.append)
    sock = _Refusing(fileno=listen().socket.detach())
    sock.error = error
    with sock:
        given = listen()
        given.close()
        acceptor = Acceptor((replace(given, socket=sock),), events, lambda *_: None)
        acceptor.sources()[0][1]()
        assert notices == []
        assert not acceptor.refused(100.0)


def test_a_unix_socket_has_no_peer_address(tmp_path: object) -> None:
    path = f"{tmp_path}/s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        adopted: list[tuple[socket.socket, tuple[str, str]]] = []
        acceptor = Acceptor(
            (Listener.of(sock, f"unix:{path}"),),
            EventBus(),
            lambda client, peer, _: adopted.append((client, peer)),
        )
        acceptor.open()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            acceptor.sources()[0][1]()
        assert adopted[0][1] == ("", "")
        adopted[0][0].close()
