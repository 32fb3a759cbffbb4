"""`wsgi.input`: of requests with a body, with a large one, and with none."""

from __future__ import annotations

import errno
import io
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsgiserve.errors import ProtocolError, WsgiServeError
from django_wsgiserve.wsgi.body import EMPTY_BODY, BodySpool, SpoolFailed

LINES = b"first line\nsecond\n\nlast without end"


@pytest.fixture(params=[1024, 4], ids=["memory", "file"])
def body(request: pytest.FixtureRequest) -> Iterator[BinaryIO]:
    spool = BodySpool(memory_bytes=request.param, directory=None)
    for start in range(0, len(LINES), 5):
        spool.write(LINES[start : start + 5])
    assert spool.size == len(LINES)
    yield spool.rewind()
    spool.close()


def test_body_is_read_whole(body: BinaryIO) -> None:
    assert body.read() == LINES
    assert body.read() == b""


def test_negative_size_reads_everything(body: BinaryIO) -> None:
    assert body.read(-1) == LINES
    assert body.read(-1) == b""


def test_sizes_are_respected_up_to_the_end(body: BinaryIO) -> None:
    assert body.read(5) == b"first"
    assert body.read(0) == b""
    assert body.read(1000) == LINES[5:]
    assert body.read(5) == b""


def test_lines_end_where_they_do_or_at_the_limit(body: BinaryIO) -> None:
    assert body.readline() == b"first line\n"
    assert body.readline(3) == b"sec"
    assert body.readline(100) == b"ond\n"
    assert body.readline() == b"\n"
    assert body.readline() == b"last without end"
    assert body.readline() == b""


def test_lines_come_as_a_list_and_by_iteration(body: BinaryIO) -> None:
    assert body.readlines() == LINES.splitlines(keepends=True)
    assert body.readlines() == []
    assert list(body) == []
    body.seek(0)
    assert list(body) == LINES.splitlines(keepends=True)


@given(
    st.lists(st.binary(max_size=40), min_size=1, max_size=8),
    st.integers(0, 100),
    st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_any_parts_of_an_announced_body_read_back_however_they_were_put_there(
    parts: list[bytes], memory_bytes: int, in_place: list[bool]
) -> None:
    whole = b"".join(parts)
    spool = BodySpool(memory_bytes=memory_bytes, directory=None, announced_bytes=len(whole))
    for part, may_be_in_place in zip(parts, in_place, strict=False):
        if may_be_in_place and spool.room is not None:
            count = min(len(part), len(spool.room))
            spool.room[:count] = part[:count]
            spool.filled(count)
            part = part[count:]
        spool.write(part)
    assert spool.size == len(whole)
    assert spool.rewind().read() == whole
    spool.close()


def test_announced_body_that_ends_early_is_as_long_as_what_came() -> None:
    spool = BodySpool(memory_bytes=100, directory=None, announced_bytes=50)
    spool.write(b"some")
    assert spool.rewind().read() == b"some"
    spool.close()


@pytest.mark.parametrize("memory_bytes", [0, 100])
def test_body_is_read_again_from_its_start(memory_bytes: int) -> None:
    spool = BodySpool(memory_bytes=memory_bytes, directory=None)
    spool.write(b"some")
    assert spool.rewind().read() == spool.rewind().read() == b"some"
    spool.close()


@pytest.mark.parametrize("memory_bytes", [0, 100])
def test_body_whose_parts_the_application_holds_can_be_closed(memory_bytes: int) -> None:
    spool = BodySpool(memory_bytes=memory_bytes, directory=None, announced_bytes=8)
    spool.write(b"some")
    spool.write(b"body")
    body: Any = spool.rewind()
    held = body.getbuffer() if memory_bytes else body.detach()
    spool.close()
    assert held is not None


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 100))
def test_any_parts_read_back_as_their_sum(parts: list[bytes], memory_bytes: int) -> None:
    spool = BodySpool(memory_bytes=memory_bytes, directory=None)
    for part in parts:
        spool.write(part)
    whole = b"".join(parts)
    assert spool.size == len(whole)
    assert spool.rewind().read() == whole
    spool.close()


def test_body_stays_in_memory_up_to_the_limit_and_leaves_no_name_beyond(tmp_path: Path) -> None:
    spool = BodySpool(memory_bytes=10, directory=str(tmp_path))
    small = BodySpool(memory_bytes=10, directory=str(tmp_path))
    small.write(b"0123456789")
    assert isinstance(small.rewind(), io.BytesIO)
    spool.write(b"0123456789")
    spool.write(b"!")
    body = spool.rewind()
    assert os.fstat(body.fileno()).st_dev == tmp_path.stat().st_dev
    assert list(tmp_path.iterdir()) == []
    assert body.read() == b"0123456789!"
    spool.close()
    assert body.closed


def test_body_closed_by_the_application_can_be_closed_again() -> None:
    for memory_bytes in (0, 100):
        spool = BodySpool(memory_bytes=memory_bytes, directory="")
        spool.write(b"some")
        spool.rewind().close()
        spool.close()
        spool.close()


def test_missing_directory_is_the_servers_problem_for_now(tmp_path: Path) -> None:
    spool = BodySpool(memory_bytes=2, directory=str(tmp_path / "missing"))
    spool.write(b"ab")
    with pytest.raises(SpoolFailed, match=r"over 2 bytes .*missing: No such file") as caught:
        spool.write(b"c")
    assert caught.value.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert not isinstance(caught.value, ProtocolError)
    assert isinstance(caught.value, WsgiServeError)
    assert spool.size == 2
    spool.close()


def test_no_descriptor_left_is_a_503() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spool = BodySpool(memory_bytes=0, directory=None)
    spool.write(b"")
    lowest_free = os.dup(2)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(SpoolFailed, match="Too many open files") as caught:
            spool.write(b"x")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.status is HTTPStatus.SERVICE_UNAVAILABLE


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file grow over `size` bytes: EFBIG, which a full disk cannot be told from."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_on_the_disk_is_a_507_while_the_body_comes() -> None:
    spool = BodySpool(memory_bytes=0, directory=None)
    spool.write(b"x" * 4096)
    with file_size_limit(4096), pytest.raises(SpoolFailed, match="File too large") as caught:
        spool.write(b"x" * 65536)
    assert caught.value.status is HTTPStatus.INSUFFICIENT_STORAGE
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert cause.errno == errno.EFBIG
    spool.close()


def test_no_room_on_the_disk_for_a_part_of_a_piece_is_a_507_at_once() -> None:
    spool = BodySpool(memory_bytes=0, directory=None)
    with file_size_limit(10):
        with pytest.raises(SpoolFailed) as caught:
            spool.write(b"x" * 100)
        spool.close()
    assert caught.value.status is HTTPStatus.INSUFFICIENT_STORAGE


def test_no_body_is_at_its_end() -> None:
    assert EMPTY_BODY.read() == EMPTY_BODY.read(10) == EMPTY_BODY.read(-1) == b""
    assert EMPTY_BODY.readline() == EMPTY_BODY.readline(5) == b""
    assert EMPTY_BODY.readlines() == EMPTY_BODY.readlines(5) == []
    assert list(EMPTY_BODY) == []
    assert next(EMPTY_BODY, None) is None
    assert io.BufferedReader(EMPTY_BODY).readinto(bytearray(5)) == 0  # type: ignore[type-var]
    assert EMPTY_BODY.seek(0) == EMPTY_BODY.tell() == 0


def test_no_body_can_be_wrapped_in_what_the_standard_library_has() -> None:
    wrapped = io.BufferedReader(EMPTY_BODY)  # type: ignore[type-var]
    assert wrapped.read() == b""
    wrapped.close()
    assert EMPTY_BODY.read() == b""
    assert EMPTY_BODY.seekable()
    assert not EMPTY_BODY.isatty()
    assert not EMPTY_BODY.writable()


def test_no_body_survives_an_application_that_closes_it() -> None:
    EMPTY_BODY.close()
    with EMPTY_BODY as body:
        body.flush()
    assert not EMPTY_BODY.closed
    assert EMPTY_BODY.read() == b""


def test_no_body_takes_no_attributes_of_an_application() -> None:
    with pytest.raises(AttributeError):
        EMPTY_BODY.read = lambda: b"of another request"  # type: ignore[method-assign,assignment,misc]


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body.write(b"of another request"),
        lambda body: body.writelines([b"x"]),
        lambda body: body.truncate(0),
        lambda body: body.fileno(),
    ],
)
def test_no_body_cannot_be_written(damage: Callable[[Any], object]) -> None:
    with pytest.raises(io.UnsupportedOperation):
        damage(EMPTY_BODY)
    assert EMPTY_BODY.read() == b""
