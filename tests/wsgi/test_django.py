"""A real Django behind the gateway: its three kinds of response, and their end."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import django
import pytest
from django.conf import settings
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotModified,
    StreamingHttpResponse,
)
from django.test import override_settings
from django.urls import path

from tests.wsgi.serving import MemorySink, Served, head, serve

if not settings.configured:  # this ring also runs without the example project
    settings.configure()
    django.setup()

CONTENT = bytes(range(256)) * 500
opened: list[Any] = []


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("a page", headers={"X-Path": request.path})


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(f"{number} " for number in range(5))


def endless(request: HttpRequest) -> StreamingHttpResponse:
    def numbers() -> Iterator[str]:
        while True:
            yield "on "

    return StreamingHttpResponse(numbers())


def open_file(name: str) -> BinaryIO:
    return Path(name).open("rb")


def download(request: HttpRequest, kind: str) -> FileResponse:
    disk = tempfile.NamedTemporaryFile()  # noqa: SIM115  FileResponse closes it
    disk.write(CONTENT)
    disk.seek(0)
    kinds: dict[str, Callable[[], Any]] = {
        "temporary": lambda: disk,
        "disk": lambda: open_file(disk.name),
        "django": lambda: File(open_file(disk.name)),
        "memory": lambda: io.BytesIO(CONTENT),
        "content": lambda: ContentFile(CONTENT),
    }
    file = kinds[kind]()
    if file is not disk:
        disk.close()
    opened.append(file)
    if skip := int(request.GET.get("skip", 0)):
        file.seek(skip)
    return FileResponse(file, as_attachment=True, filename="content.bin")


def upload(request: HttpRequest) -> HttpResponse:
    return HttpResponse(hashlib.sha256(request.body).hexdigest())


def unmodified(request: HttpRequest) -> HttpResponse:
    return HttpResponseNotModified()


def fail(request: HttpRequest) -> HttpResponse:
    raise ValueError("boom")


def fail_midway(request: HttpRequest) -> HttpResponseBase:
    def numbers() -> Iterator[str]:
        yield "begun"
        raise ValueError("boom")

    return StreamingHttpResponse(numbers())


urlpatterns = [
    path("page", page),
    path("stream", stream),
    path("endless", endless),
    path("download/<kind>", download),
    path("upload", upload),
    path("unmodified", unmodified),
    path("fail", fail),
    path("fail-midway", fail_midway),
]


class Requests:
    """How many requests Django began and ended."""

    def __init__(self) -> None:
        self.started = 0
        self.finished = 0

    def start(self, **_signal: Any) -> None:
        """Note the beginning of one."""
        self.started += 1

    def finish(self, **_signal: Any) -> None:
        """Note the end of one."""
        self.finished += 1


@pytest.fixture(autouse=True)
def requests() -> Iterator[Requests]:
    """Count, and check that the request that Django began, it also ended."""
    requests = Requests()
    request_started.connect(requests.start)
    request_finished.connect(requests.finish)
    yield requests
    request_started.disconnect(requests.start)
    request_finished.disconnect(requests.finish)
    assert requests.started == requests.finished == 1
    opened.clear()


def ask(*request: str, body: bytes = b"", sink: MemorySink | None = None) -> Served:
    with override_settings(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["example.org"],
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        DEBUG=False,
        TEMPLATES=[],
        LOGGING_CONFIG=None,
    ):
        return serve(WSGIHandler(), head(*request), body=body, sink=sink)


def test_page_is_one_send() -> None:
    served = ask("GET", "/page")
    assert len(served.sink.parts) == 1
    assert served.body == b"a page"
    assert served.response().getheader("Content-Length") == "6"
    assert served.outcome.keep_alive
    assert served.failures == []


def test_path_arrives_decoded() -> None:
    assert ask("GET", "/%70age").response().getheader("X-Path") == "/page"


def test_stream_is_chunked_and_whole() -> None:
    served = ask("GET", "/stream")
    assert served.response().getheader("Transfer-Encoding") == "chunked"
    assert served.body == b"0 1 2 3 4 "
    assert len(served.sink.parts) == 6


def test_endless_stream_ends_with_its_client(requests: Requests) -> None:
    served = ask("GET", "/endless", sink=MemorySink(leaves_after=10))
    assert served.outcome.aborted
    assert requests.finished == 1


def test_head_of_an_endless_stream_ends_at_once() -> None:
    served = ask("HEAD", "/endless")
    assert served.outcome.status == 200
    assert served.wire.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("kind", ["temporary", "django", "disk"])
@pytest.mark.parametrize("skip", [0, 100])
def test_file_on_disk_is_sent_by_the_kernel_and_closed(kind: str, skip: int) -> None:
    served = ask("GET", f"/download/{kind}?skip={skip}")
    assert served.sink.files == [(skip, len(CONTENT) - skip)]
    assert served.body == CONTENT[skip:]
    assert served.response().getheader("Content-Length") == str(len(CONTENT) - skip)
    assert served.response().getheader("Content-Disposition") == (
        'attachment; filename="content.bin"'
    )
    assert opened[0].closed
    assert served.failures == []
    assert served.outcome.keep_alive


@pytest.mark.parametrize("kind", ["memory", "content"])
def test_file_in_memory_is_sent_in_few_parts_and_closed(kind: str) -> None:
    served = ask("GET", f"/download/{kind}")
    assert served.body == CONTENT
    assert served.sink.files == []
    assert len(served.sink.parts) == -(-len(CONTENT) // 65536)
    assert opened[0].closed or kind == "content"  # whose close() does nothing
    assert served.failures == []


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_head_of_a_file_tells_its_length_and_closes_it(kind: str) -> None:
    served = ask("HEAD", f"/download/{kind}")
    assert served.wire.endswith(b"\r\n\r\n")
    assert served.response().getheader("Content-Length") == str(len(CONTENT))
    assert opened[0].closed
    assert served.failures == []


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_file_is_closed_when_the_client_leaves(kind: str) -> None:
    served = ask("GET", f"/download/{kind}", sink=MemorySink(leaves_after=0))
    assert served.outcome.aborted
    assert opened[0].closed


@pytest.mark.parametrize(
    "fields",
    [["Transfer-Encoding: chunked"], ["Content-Length: 128000"]],
    ids=["chunked", "length"],
)
def test_upload_arrives_whole(fields: list[str]) -> None:
    served = ask("POST", "/upload", *fields, body=CONTENT)
    assert served.body.decode() == hashlib.sha256(CONTENT).hexdigest()


def test_unmodified_has_no_body() -> None:
    served = ask("GET", "/unmodified")
    assert served.outcome.status == 304
    assert served.wire.endswith(b"\r\n\r\n")


def test_view_that_fails_gets_djangos_own_page(caplog: pytest.LogCaptureFixture) -> None:
    served = ask("GET", "/fail")
    assert served.outcome.status == 500
    assert b"<h1>Server Error (500)</h1>" in served.body
    assert served.outcome.keep_alive
    assert served.failures == []


def test_stream_that_fails_midway_is_cut_short_and_reported() -> None:
    served = ask("GET", "/fail-midway")
    assert served.outcome.aborted
    assert "boom" in served.failure.summary
