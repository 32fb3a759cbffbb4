"""`OutputQueue`: order, bounds and what becomes of its files."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_wsgiserve.errors import FileFailed
from django_wsgiserve.workers.output import OutputQueue
from tests.workers.conftest import left_open, open_descriptors

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def queue() -> Iterator[OutputQueue]:
    made = OutputQueue(memory_limit=1000, directory=None)
    yield made
    made.close()


def drain(queue: OutputQueue, server: socket.socket, client: socket.socket) -> bytes:
    """Flush and read in turn until the queue is empty; return what came."""
    pieces = []
    client.setblocking(False)
    while True:
        queue.flush(server)
        try:
            pieces.append(client.recv(1 << 22))
        except BlockingIOError:
            if not queue.items:
                return b"".join(pieces)


def fill(server: socket.socket) -> int:
    """Send until the client's buffer takes no more; return how much it took."""
    taken = 0
    try:
        while True:
            taken += server.send(b"x" * 65536)
    except BlockingIOError:
        return taken


def test_small_output_stays_in_memory(queue: OutputQueue) -> None:
    before = open_descriptors()
    queue.add(memoryview(b"a" * 1000))
    assert queue.held_bytes == 1000
    assert not left_open(before)


def test_output_over_the_limit_goes_to_an_unlinked_file(queue: OutputQueue, tmp_path: Path) -> None:
    on_disk = OutputQueue(memory_limit=10, directory=str(tmp_path))
    before = open_descriptors()
    on_disk.add(memoryview(b"a" * 11))
    new = set(open_descriptors().items()) - set(before.items())
    assert len(new) == 1
    assert str(tmp_path) in next(iter(new))[1]
    assert list(tmp_path.iterdir()) == []
    assert on_disk.held_bytes == 11
    on_disk.close()
    assert not left_open(before)


def test_bytes_arrive_in_the_order_they_were_added(queue: OutputQueue, pair: Pair) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789" * 100)
        file.flush()
        queue.add(memoryview(b"memory" * 100))
        queue.add(memoryview(b"spooled" * 1000))
        queue.add_file(file.fileno(), 10, 500)
        queue.add(memoryview(b"spooled again"))
        queue.add_in_memory(memoryview(b"no room on disk"))
        queue.add(memoryview(b"spooled a third time"))
    received = drain(queue, *pair)
    assert received == (
        b"memory" * 100
        + b"spooled" * 1000
        + b"0123456789" * 50
        + b"spooled again"
        + b"no room on disk"
        + b"spooled a third time"
    )


@given(
    pieces=st.lists(
        st.tuples(st.sampled_from(["add", "memory", "file", "flush"]), st.integers(0, 3000)),
        max_size=25,
    )
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_mixture_the_client_gets_exactly_it(
    pieces: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    queue = OutputQueue(memory_limit=1500, directory=None)
    server, client = socket.socketpair()
    server.setblocking(False)
    source = os.urandom(3000)
    expected = []
    with tempfile.TemporaryFile() as file, server, client:
        file.write(source)
        file.flush()
        for kind, size in pieces:
            if kind == "flush":
                queue.flush(server)
                continue
            data = source[:size]
            if kind == "add":
                queue.add(memoryview(data))
            elif kind == "memory":
                queue.add_in_memory(memoryview(data))
            else:
                queue.add_file(file.fileno(), 0, size)
            expected.append(data)
        received = drain(queue, server, client)
    assert received == b"".join(expected)
    assert queue.held_bytes == 0


def test_a_full_socket_costs_no_error_and_sends_nothing(queue: OutputQueue, pair: Pair) -> None:
    server, _ = pair
    fill(server)
    queue.add(memoryview(b"waits"))
    assert queue.flush(server) == 0
    assert queue.items
    assert queue.held_bytes == 5


def test_sent_parts_of_the_file_count_until_all_of_it_was_sent(pair: Pair) -> None:
    server, client = pair
    queue = OutputQueue(memory_limit=0, directory=None)
    body = os.urandom(4 << 20)
    queue.add(memoryview(body))
    sent = queue.flush(server)
    assert 0 < sent < len(body)
    assert queue.held_bytes == len(body)
    assert client.recv(100) == body[:100]
    assert drain(queue, server, client) == body[100:]
    assert queue.held_bytes == 0


def test_the_file_is_closed_when_it_has_been_sent(queue: OutputQueue, pair: Pair) -> None:
    before = open_descriptors()
    queue.add(memoryview(b"a" * 5000))
    assert drain(queue, *pair) == b"a" * 5000
    assert not left_open(before)
    queue.add(memoryview(b"b" * 900))
    assert not left_open(before), "what is small goes to memory again"
    assert drain(queue, *pair) == b"b" * 900


def test_a_turn_ends_although_the_client_would_take_more(
    queue: OutputQueue, tmp_path: Path
) -> None:
    turn_bytes = 4 * 1024 * 1024
    path = tmp_path / "large"
    path.write_bytes(bytes(3 * turn_bytes))
    with path.open("rb") as file, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * turn_bytes)
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        # A blocking socket takes everything: as a client that reads as fast as we send does.
        queue.add_file(file.fileno(), 0, 3 * turn_bytes)
        reader = b""
        with client, server:

            def read() -> None:
                nonlocal reader
                reader = b"".join(iter(lambda: client.recv(1 << 20), b""))

            thread = threading.Thread(target=read)
            thread.start()
            sent = queue.flush(server)
            assert turn_bytes <= sent < 2 * turn_bytes
            while queue.items:
                queue.flush(server)
            server.shutdown(socket.SHUT_WR)
            thread.join(20)
        assert len(reader) == 3 * turn_bytes


def test_a_file_is_sent_although_the_application_has_closed_it(
    queue: OutputQueue, pair: Pair, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    before = open_descriptors()
    with path.open("rb") as file:
        queue.add_file(file.fileno(), 2, 5)
    path.unlink()
    assert drain(queue, *pair) == b"23456"
    assert not left_open(before)


def test_a_file_of_no_bytes_is_passed_over(queue: OutputQueue, pair: Pair) -> None:
    with tempfile.TemporaryFile() as file:
        queue.add_file(file.fileno(), 0, 0)
        queue.add(memoryview(b"after"))
        assert drain(queue, *pair) == b"after"


@pytest.fixture(params=["sendfile", "copied"])
def server(request: pytest.FixtureRequest, pair: Pair) -> socket.socket:
    """Return the server's end, once as it is and once as one that sendfile(2) refuses."""
    if request.param == "copied":
        refuse_sendfile(pair[0])
    return pair[0]


def refuse_sendfile(sock: socket.socket) -> None:
    """Let the kernel refuse sendfile(2) with EINVAL, as it does for files of some file systems."""
    fcntl.fcntl(sock, fcntl.F_SETFL, fcntl.fcntl(sock, fcntl.F_GETFL) | os.O_APPEND)
    with tempfile.TemporaryFile() as file, pytest.raises(OSError, match="Invalid argument"):
        os.sendfile(sock.fileno(), file.fileno(), 0, 1)


def test_a_file_that_became_shorter_is_an_error(
    queue: OutputQueue, server: socket.socket, pair: Pair
) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"short")
        file.flush()
        queue.add_file(file.fileno(), 0, 100)
        queue.items.appendleft(memoryview(b"before"))
        assert queue.flush(server) == 11, "what was sent counts, and the error comes next"
        with pytest.raises(FileFailed, match=r"became shorter .*: 95 bytes are missing"):
            queue.flush(server)
    assert pair[1].recv(100) == b"beforeshort"


def test_a_file_that_cannot_be_read_is_an_error(queue: OutputQueue, pair: Pair) -> None:
    with Path("/proc/self/mem").open("rb") as unreadable:  # nothing is mapped at 0
        queue.add_file(unreadable.fileno(), 0, 100)
    with pytest.raises(FileFailed, match="cannot be read: Input/output error"):
        queue.flush(pair[0])


def test_a_file_that_sendfile_refuses_is_sent_whole(queue: OutputQueue, pair: Pair) -> None:
    refuse_sendfile(pair[0])
    content = os.urandom(3 << 20)
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        queue.add(memoryview(content))  # over the limit: to a file of ours
        queue.add_file(file.fileno(), 1, len(content) - 2)
    queue.add(memoryview(b"after"))
    assert drain(queue, *pair) == content + content[1:-1] + b"after"


def test_a_client_that_left_is_an_error(queue: OutputQueue, pair: Pair) -> None:
    server, client = pair
    client.close()
    queue.add(memoryview(b"x"))
    with pytest.raises(BrokenPipeError):
        queue.flush(server)


def test_a_client_that_left_during_a_file_is_an_error(
    queue: OutputQueue, server: socket.socket, pair: Pair
) -> None:
    pair[1].close()
    with tempfile.TemporaryFile() as file:
        file.write(b"file")
        file.flush()
        queue.add_file(file.fileno(), 0, 4)
        with pytest.raises(BrokenPipeError):
            queue.flush(server)


def test_nothing_is_added_when_the_directory_does_not_exist(tmp_path: Path) -> None:
    queue = OutputQueue(memory_limit=4, directory=str(tmp_path / "absent"))
    queue.add(memoryview(b"1234"))
    with pytest.raises(FileNotFoundError):
        queue.add(memoryview(b"5"))
    assert queue.held_bytes == 4


def test_nothing_is_added_when_the_disk_is_full(
    pair: Pair, tmp_path: Path, file_size_limit: None
) -> None:
    queue = OutputQueue(memory_limit=10, directory=str(tmp_path))
    before = open_descriptors()
    queue.add(memoryview(b"a" * 10))
    queue.add(memoryview(b"b" * 60_000))
    with pytest.raises(OSError, match="too large"):
        queue.add(memoryview(b"c" * 10_000))
    assert queue.held_bytes == 60_010
    queue.add_in_memory(memoryview(b"c" * 10_000))
    assert drain(queue, *pair) == b"a" * 10 + b"b" * 60_000 + b"c" * 10_000
    assert not left_open(before)


def test_a_file_that_took_nothing_is_not_kept(tmp_path: Path, file_size_limit: None) -> None:
    queue = OutputQueue(memory_limit=10, directory=str(tmp_path))
    before = open_descriptors()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match="too large"):
        queue.add(memoryview(b"c" * 11))
    assert not left_open(before)
    queue.add(memoryview(b"d" * 10))
    assert queue.held_bytes == 10


@pytest.fixture
def file_size_limit() -> Iterator[None]:
    """Let no file of this process grow over 64 KiB: a disk that is full, for one test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ, so that a write fails with EFBIG.
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_closing_gives_back_every_descriptor(queue: OutputQueue) -> None:
    before = open_descriptors()
    with tempfile.TemporaryFile() as file:
        queue.add(memoryview(b"a" * 5000))
        queue.add_file(file.fileno(), 0, 100)
        queue.add(memoryview(b"b" * 5000))
    assert len(open_descriptors()) == len(before) + 2
    queue.close()
    queue.close()
    assert not left_open(before)
    assert not queue.items
    assert queue.held_bytes == 0


def test_no_descriptor_left_is_told_and_leaves_the_queue_as_it_was(queue: OutputQueue) -> None:
    queue.add(memoryview(b"first"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tempfile.TemporaryFile() as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()), hard))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            with pytest.raises(OSError, match="Too many open files"):
                queue.add_file(file.fileno(), 0, 100)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in taken:
                os.close(fd)
    assert queue.held_bytes == 5
