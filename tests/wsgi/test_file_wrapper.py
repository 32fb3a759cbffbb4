"""Files as responses: which of them the kernel may send, and what reaches the client."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from django.core.files import File

from django_wsgiserve.wsgi.file_wrapper import FileWrapper
from tests.wsgi.serving import App, MemorySink, head, serve

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    return path


def file_app(filelike: Any, *headers: tuple[str, str], block_size: int = 4096) -> App:
    """Return an application that answers with `filelike` through `wsgi.file_wrapper`."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "application/octet-stream"), *headers])
        return environ["wsgi.file_wrapper"](filelike, block_size)

    return app


def test_plain_file_is_sent_by_the_kernel_with_its_length(path: Path) -> None:
    file = path.open("rb")
    served = serve(file_app(file))
    assert served.sink.files == [(0, len(CONTENT))]
    assert served.body == CONTENT
    assert served.response().getheader("Content-Length") == str(len(CONTENT))
    assert served.outcome.body_bytes == len(CONTENT)
    assert served.outcome.keep_alive
    assert file.closed


@pytest.mark.parametrize(
    "opened",
    [
        lambda path: path.open("rb"),
        lambda path: path.open("rb", buffering=0),
        lambda path: path.open("r+b"),
        lambda path: File(path.open("rb")),
    ],
    ids=["buffered", "raw", "writable", "django"],
)
def test_file_is_sent_from_its_position(opened: Callable[[Path], Any], path: Path) -> None:
    file = opened(path)
    assert file.read(7) == CONTENT[:7]
    served = serve(file_app(file))
    assert served.sink.files == [(7, len(CONTENT) - 7)]
    assert served.body == CONTENT[7:]


def test_temporary_file_of_the_standard_library_is_a_plain_file() -> None:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115  closed by the gateway
    file.write(CONTENT)
    file.seek(5)
    served = serve(file_app(file))
    assert served.sink.files == [(5, len(CONTENT) - 5)]
    assert served.body == CONTENT[5:]
    assert file.closed


def test_content_length_smaller_than_the_file_is_a_range_of_it(path: Path) -> None:
    file = path.open("rb")
    file.seek(10)
    served = serve(file_app(file, ("Content-Length", "5")))
    assert served.sink.files == [(10, 5)]
    assert served.body == CONTENT[10:15]
    assert served.failures == []


def test_content_length_of_zero_sends_nothing_of_the_file(path: Path) -> None:
    served = serve(file_app(path.open("rb"), ("Content-Length", "0")))
    assert served.sink.files == []
    assert served.body == b""
    assert served.outcome.keep_alive


def test_content_length_limits_what_is_read_block_by_block() -> None:
    served = serve(file_app(io.BytesIO(CONTENT), ("content-length", "70000")))
    assert served.body == CONTENT[:70000]
    assert served.failures == []
    assert served.outcome.keep_alive


def test_file_shorter_than_its_content_length_is_reported(path: Path) -> None:
    served = serve(file_app(path.open("rb"), ("Content-Length", str(len(CONTENT) + 1))))
    assert served.outcome.aborted
    assert not served.outcome.keep_alive
    assert served.wire.endswith(CONTENT)
    assert "Content-Length" in served.failure.summary


def test_invalid_content_length_is_a_500(path: Path) -> None:
    served = serve(file_app(path.open("rb"), ("Content-Length", "many")))
    assert served.outcome.status == 500
    assert served.failures


def test_head_of_a_file_tells_its_length_and_sends_nothing(path: Path) -> None:
    file = path.open("rb")
    served = serve(file_app(file), head("HEAD"))
    assert served.sink.files == []
    assert served.wire.endswith(b"\r\n\r\n")
    assert served.response().getheader("Content-Length") == str(len(CONTENT))
    assert served.outcome.body_bytes == 0
    assert served.outcome.keep_alive
    assert file.closed


def test_old_client_gets_the_file_too(path: Path) -> None:
    served = serve(file_app(path.open("rb")), head("GET", "/", version="1.0"))
    assert served.body == CONTENT


def test_decompressing_file_is_read_and_not_sent_as_it_lies(tmp_path: Path) -> None:
    packed = tmp_path / "file.gz"
    packed.write_bytes(gzip.compress(CONTENT))
    served = serve(file_app(gzip.GzipFile(packed)))
    assert served.sink.files == []
    assert served.body == CONTENT


def flip(data: bytes) -> bytes:
    return bytes(byte ^ 1 for byte in data)


class Decrypting(File):  # type: ignore[type-arg]  # not generic while it runs
    """A file that reads something else than what lies on the disk."""

    @property
    def read(self) -> Any:
        """Read, and decrypt."""
        return lambda size: flip(cast(BinaryIO, self.file).read(size))


class Upper(io.BufferedReader):
    """A subclass of the standard library's reader that changes what is read."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return it in capitals."""
        return super().read(size).upper()


def test_file_that_overrides_read_is_read(path: Path) -> None:
    served = serve(file_app(Decrypting(path.open("rb"))))
    assert served.sink.files == []
    assert served.body == flip(CONTENT)
    served = serve(file_app(Upper(io.FileIO(path))))
    assert served.sink.files == []
    assert served.body == CONTENT.upper()


def test_reader_over_something_that_is_no_file_is_read() -> None:
    class Zeros(io.RawIOBase):
        left = 10

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any, /) -> int:
            count = min(self.left, len(buffer))
            self.left -= count
            buffer[:count] = bytes(count)
            return count

    served = serve(file_app(io.BufferedReader(Zeros())))
    assert served.body == bytes(10)


def test_pipe_is_read_until_its_end() -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"through a pipe")
    os.close(write_fd)
    file = os.fdopen(read_fd, "rb")
    served = serve(file_app(file))
    assert served.sink.files == []
    assert served.body == b"through a pipe"
    assert file.closed


def test_character_device_is_read(path: Path) -> None:
    served = serve(file_app(Path("/dev/zero").open("rb"), ("Content-Length", "9")))  # noqa: SIM115
    assert served.sink.files == []
    assert served.body == bytes(9)


def test_file_of_proc_is_read_though_the_kernel_calls_it_empty() -> None:
    version = Path("/proc/version")
    served = serve(file_app(version.open("rb")))
    assert served.body == version.read_bytes()


def test_empty_file_is_an_empty_body(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    served = serve(file_app((tmp_path / "empty").open("rb")))
    assert served.response().getheader("Content-Length") == "0"
    assert served.outcome.keep_alive


def test_closed_file_is_the_applications_failure(path: Path) -> None:
    file = path.open("rb")
    file.close()
    served = serve(file_app(file))
    assert served.outcome.status == 500
    assert isinstance(served.failure.exception, ValueError)


def test_text_file_is_refused_with_a_reason(path: Path) -> None:
    path.write_text("text")
    served = serve(file_app(path.open()))
    assert served.outcome.status == 500
    assert "str 'text', not bytes" in served.failure.summary


def test_memory_and_disk_are_read_in_larger_blocks_than_suggested(path: Path) -> None:
    assert [len(block) for block in FileWrapper(io.BytesIO(CONTENT), 10)] == [
        *[65536] * (len(CONTENT) // 65536),
        len(CONTENT) % 65536,
    ]


def test_unknown_source_is_read_in_the_blocks_suggested() -> None:
    class Source:
        def __init__(self) -> None:
            self.sizes: list[int] = []
            self._inner = io.BytesIO(b"0123456789")

        def read(self, size: int, /) -> bytes:
            self.sizes.append(size)
            return self._inner.read(size)

    source = Source()
    served = serve(file_app(source, block_size=4))
    assert served.body == b"0123456789"
    assert source.sizes == [4, 4, 4, 4]
    assert served.failures == []
    assert not hasattr(FileWrapper(Source()), "close")


def test_file_after_write_is_sent_behind_what_was_written(path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])(b"before ")
        return environ["wsgi.file_wrapper"](path.open("rb"))

    served = serve(app)
    assert served.sink.files == []
    assert served.body == b"before " + CONTENT


@pytest.mark.parametrize("leaves_after", [0, 1])
def test_file_is_closed_when_the_client_leaves(path: Path, leaves_after: int) -> None:
    file = path.open("rb")
    served = serve(file_app(file), sink=MemorySink(leaves_after=leaves_after))
    assert served.outcome.aborted
    assert not served.outcome.keep_alive
    assert served.outcome.body_bytes == 0
    assert served.sink.refused == 1
    assert served.failures == []
    assert file.closed


def test_file_wrapped_by_a_middleware_is_iterated(path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        wrapper = environ["wsgi.file_wrapper"](path.open("rb"))
        yield from wrapper
        wrapper.close()

    served = serve(app)
    assert served.body == CONTENT


@pytest.mark.parametrize(
    "header",
    [("Transfer-Encoding", "chunked"), ("X-Number", 1), (1, "X-Name"), ("X", "Y", "Z")],
)
def test_file_with_an_illegal_header_is_a_500_and_closed(path: Path, header: Any) -> None:
    file = path.open("rb")
    served = serve(file_app(file, header))
    assert served.outcome.status == 500
    assert served.failure.summary.startswith("the application's response is not valid")
    assert file.closed
