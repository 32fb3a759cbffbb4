"""Descriptors of every kind: none is waited for, and none is changed for its other users."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import pty
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from django_wsgiserve.logs.devices import (
    DescriptorDevice,
    SocketDevice,
    is_terminal,
    open_destination,
    open_path,
    open_standard,
    path_problem,
)
from tests.logs.devices import (
    DEADLINE_S,
    Target,
    fill_pipe,
    lines_of,
    open_pipe,
    read_available,
)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    with open_pipe() as ends:
        yield ends


def test_full_pipe_keeps_lines_then_drops_them_and_says_so_when_it_is_read(
    pipe: tuple[int, int],
) -> None:
    read_end, write_end = pipe
    filled = fill_pipe(write_end)
    log = Target(functools.partial(open_standard, write_end), held_bytes=1000)
    for _ in range(300):  # more than the bound
        log.write(b"a line of 20 bytes.")
        log.flush_later()
    assert log.target.is_held
    assert log.target.failure is None
    assert len(read_available(read_end)) == filled
    log.flush_later()
    log.write(b"back again")
    log.flush_later()
    lines = read_available(read_end).splitlines()
    assert lines == [b"a line of 20 bytes."] * 50 + [b"dropped 250", b"back again"]


def test_line_longer_than_the_pipe_is_finished_before_the_next(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    log = Target(functools.partial(open_standard, write_end), held_bytes=1_000_000)
    log.write(b"x" * 200_000, b"next")
    received = b""
    while log.target.is_held:
        log.flush_later()
        received += read_available(read_end)
    assert received == b"x" * 200_000 + b"\nnext\n"


def test_closed_pipe_is_a_failure_that_goes_no_further(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    log = Target(functools.partial(open_standard, write_end))
    log.target.open()
    os.close(read_end)
    log.write(b"one")
    log.target.flush()
    assert isinstance(log.target.failure, BrokenPipeError)
    log.target.close()


def test_pipe_whose_reader_left_before_is_a_failure_that_goes_no_further(
    pipe: tuple[int, int],
) -> None:
    read_end, write_end = pipe
    os.close(read_end)
    log = Target(functools.partial(open_standard, write_end))
    log.write(b"one")
    log.target.flush()
    assert isinstance(log.target.failure, BrokenPipeError)


def test_full_disk_is_a_failure_that_goes_no_further() -> None:
    log = Target(functools.partial(open_path, "/dev/full"), held_bytes=10)
    log.write(b"one", b"two", b"three", b"four")
    log.target.flush()
    assert log.target.failure is not None
    assert log.target.failure.errno == errno.ENOSPC
    log.target.close()


def test_closed_standard_stream_is_a_failure_that_goes_no_further(pipe: tuple[int, int]) -> None:
    _, write_end = pipe
    closed_fd = os.dup(write_end)
    os.close(closed_fd)
    log = Target(functools.partial(open_standard, closed_fd))
    log.write(b"one")
    log.target.flush()
    assert log.target.failure is not None
    assert log.target.failure.errno == errno.EBADF
    assert not is_terminal("-", closed_fd)


def test_file_is_appended_to_and_followed_after_a_rotation(tmp_path: Path) -> None:
    path, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    path.write_bytes(b"before\n")
    log = Target(functools.partial(open_path, str(path)))
    log.write(b"one")
    log.target.flush()
    path.rename(rotated)
    log.write(b"two")
    log.target.flush()
    log.target.reopen()
    log.write(b"three")
    log.target.close()
    assert lines_of(rotated) == [b"before", b"one", b"two"]
    assert lines_of(path) == [b"three"]


def test_two_processes_worth_of_appending_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    logs = [Target(functools.partial(open_path, str(path))) for _ in range(2)]
    for _ in range(50):
        for name, log in zip((b"first", b"second"), logs, strict=True):
            log.write(name * 10)
            log.target.flush()
    assert lines_of(path) == [b"first" * 10, b"second" * 10] * 50


def test_lines_of_two_writers_of_one_pipe_stay_whole(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    sizes = (100, 700)
    logs = [
        Target(functools.partial(open_standard, write_end), held_bytes=10_000_000) for _ in sizes
    ]

    def write(log: Target, size: int) -> None:
        for _ in range(2000):
            log.write(b"%d" % size * (size // 3))
            log.target.flush(now=True)
        while log.target.is_held:
            select.select([], [write_end], [], DEADLINE_S)
            log.target.flush(now=True)

    threads = [threading.Thread(target=write, args=pair) for pair in zip(logs, sizes, strict=True)]
    for thread in threads:
        thread.start()
    received = b""
    while received.count(b"\n") < 4000:
        assert select.select([read_end], [], [], DEADLINE_S)[0]
        received += os.read(read_end, 3000)
    for thread in threads:
        thread.join()
    assert set(received.splitlines()) == {b"%d" % size * (size // 3) for size in sizes}


def test_application_and_log_do_not_overwrite_each_other_in_a_redirected_stdout(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out"
    with path.open("wb", buffering=0) as stdout:  # as the shell's `>`: no O_APPEND
        log = Target(functools.partial(open_standard, stdout.fileno()))
        for _ in range(3):
            stdout.write(b"printed\n")
            log.write(b"logged")
            log.target.flush()
    assert lines_of(path) == [b"printed", b"logged"] * 3


def test_full_socket_keeps_lines_and_writes_them_when_it_is_read() -> None:
    reader, writer = socket.socketpair()
    with reader, writer:
        log = Target(functools.partial(open_standard, writer.fileno()), held_bytes=100_000_000)
        count = 0
        while log.target.failure is None:
            log.write(b"x" * 99)
            count += 1
            log.target.flush()
            if log.target.is_held:
                break
        received = b""
        while log.target.is_held or select.select([reader], [], [], 0)[0]:
            received += reader.recv(65536)
            log.flush_later()
        assert received == (b"x" * 99 + b"\n") * count
        log.target.close()


def test_socket_that_was_closed_is_a_failure_that_goes_no_further() -> None:
    reader, writer = socket.socketpair()
    with writer:
        reader.close()
        log = Target(functools.partial(open_standard, writer.fileno()))
        log.write(b"one")
        log.target.flush()
        assert isinstance(log.target.failure, BrokenPipeError)
        log.target.close()


@contextlib.contextmanager
def opened_terminal() -> Iterator[int]:
    controller, terminal = pty.openpty()
    try:
        yield terminal
    finally:
        os.close(controller)
        os.close(terminal)


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_nothing_sets_nonblocking_for_the_others_who_have_the_descriptor(kind: str) -> None:
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            fd = stack.enter_context(open_pipe())[1]
        elif kind == "terminal":
            fd = stack.enter_context(opened_terminal())
        else:
            pair = socket.socketpair()
            for end in pair:
                stack.enter_context(end)
            fd = pair[1].fileno()
            stack.callback(socket.setdefaulttimeout, socket.getdefaulttimeout())
            socket.setdefaulttimeout(5)  # what some projects do: new sockets get O_NONBLOCK
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        log = Target(functools.partial(open_standard, fd))
        log.write(b"one")
        log.target.flush()
        assert log.target.failure is None
        assert fcntl.fcntl(fd, fcntl.F_GETFL) == flags
        log.target.close()
        assert fcntl.fcntl(fd, fcntl.F_GETFL) == flags


@pytest.mark.parametrize("destination", ["-", "/dev/stdout", "/proc/self/fd/2"])
def test_terminal_is_known_by_any_name_of_the_standard_streams(destination: str) -> None:
    with opened_terminal() as terminal:
        assert is_terminal("-", terminal)
        expected = os.isatty(2 if destination.endswith("2") else 1)
        assert is_terminal(destination, 1) == expected
    assert not is_terminal("/tmp/access.log", 1)  # noqa: S108  # a name; nothing is opened


def test_dev_stdout_is_opened_as_the_standard_stream_is() -> None:
    by_name, by_dash = open_destination("/dev/stdout", 2), open_destination("-", 1)
    assert type(by_name) is type(by_dash)
    assert by_name.atomic_bytes == by_dash.atomic_bytes
    by_name.close(0)
    by_dash.close(0)


def test_path_that_cannot_be_opened_is_explained(tmp_path: Path) -> None:
    assert path_problem(str(tmp_path / "access.log")) == ""
    assert "make the directory" in path_problem(str(tmp_path / "missing/access.log"))
    assert "Is a directory" in path_problem(str(tmp_path))


def test_named_pipe_without_a_reader_is_no_problem_and_is_found_later(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert path_problem(str(path)) == ""
    log = Target(functools.partial(open_path, str(path)))
    log.write(b"one")
    log.target.flush()
    assert log.target.failure is not None
    assert log.target.failure.errno == errno.ENXIO
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log.flush_later()
    assert os.read(reader, 100) == b"one\n"
    log.target.close()
    os.close(reader)


def test_stdout_on_a_named_pipe_is_found_again_when_a_reader_comes(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    os.close(reader)
    log = Target(functools.partial(open_standard, writer))
    log.write(b"one")
    log.target.flush()
    assert log.target.failure is not None
    assert log.target.failure.errno == errno.ENXIO
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log.flush_later()
    assert os.read(reader, 100) == b"one\n"
    log.target.close()
    os.close(reader)
    os.close(writer)


def test_devices_are_of_the_expected_kind(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reader, writer = socket.socketpair()
    with reader, writer, (tmp_path / "file").open("wb") as file:
        for fd, kind in (
            (pipe[1], DescriptorDevice),
            (file.fileno(), DescriptorDevice),
            (writer.fileno(), SocketDevice),
        ):
            device = open_standard(fd)
            assert isinstance(device, kind)
            device.close(0)
