"""Pages that move bytes: uploads that say what came, streams and downloads."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods

from example_project.library.views.numbers import number_from

CHUNK_BYTES = 64 * 1024
MAX_STREAM_CHUNKS = 100_000
MAX_STREAM_CHUNK_BYTES = 1024 * 1024
MAX_DOWNLOAD_BYTES = 1024**3

# 251 is prime, so that a block that is lost, doubled or out of place shows.
PATTERN = bytes(range(251)) * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """A file as it arrived."""

    field: str
    name: str
    size: int
    sha256: str


def digest(chunks: Iterable[bytes]) -> tuple[int, str]:
    """Return the number of bytes in `chunks` and their SHA-256 in hexadecimal."""
    sha256, size = hashlib.sha256(), 0
    for chunk in chunks:
        sha256.update(chunk)
        size += len(chunk)
    return size, sha256.hexdigest()


def received(field: str, file: UploadedFile[Any]) -> Received:
    """Return what an uploaded file turned out to be."""
    size, sha256 = digest(file.chunks())
    return Received(field=field, name=file.name or "", size=size, sha256=sha256)


@require_http_methods(["GET", "HEAD", "POST"])
def upload(request: HttpRequest) -> HttpResponse:
    """Show a form; given files, report their names, sizes and SHA-256 (as JSON if preferred)."""
    files = [
        received(field, file) for field, group in request.FILES.lists() for file in group if file
    ]
    if request.get_preferred_type(["text/html", "application/json"]) == "application/json":
        return JsonResponse({"files": [asdict(file) for file in files]})
    return render(request, "library/upload.html", {"files": files})


@csrf_exempt
@require_http_methods(["POST", "PUT"])
def upload_raw(request: HttpRequest) -> HttpResponse:
    """Report the length and SHA-256 of the body, read in pieces and never held whole.

    For command-line clients, which have no CSRF token; it changes nothing.
    """
    size, sha256 = digest(iter(lambda: request.read(CHUNK_BYTES), b""))
    return JsonResponse(
        {
            "method": request.method,
            "content_type": request.content_type,
            "content_length": request.META.get("CONTENT_LENGTH", ""),
            "size": size,
            "sha256": sha256,
        }
    )


def pattern(total_bytes: int) -> Iterator[bytes]:
    """Yield `total_bytes` of a known sequence, in pieces of at most 251 KiB."""
    while total_bytes > 0:
        piece = PATTERN[:total_bytes]
        total_bytes -= len(piece)
        yield piece


@require_GET
def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Stream `n` chunks of `size` bytes, whose total length nobody announces."""
    n = int(number_from(request, "n", default=10, most=MAX_STREAM_CHUNKS))
    size = int(number_from(request, "size", default=1024, most=MAX_STREAM_CHUNK_BYTES))
    lines = (f"{index:09d}\n".encode().rjust(size, b".")[-size:] for index in range(n))
    return StreamingHttpResponse(lines, content_type="text/plain; charset=ascii")


@require_GET
def download(request: HttpRequest, size: int) -> HttpResponse | FileResponse:
    """Send a file of `size` bytes (at most 1 GiB) as an attachment."""
    if size > MAX_DOWNLOAD_BYTES:
        return HttpResponse(f"At most {MAX_DOWNLOAD_BYTES} bytes.\n", status=400)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the response closes it when it is sent
    for piece in pattern(size):
        file.write(piece)
    file.seek(0)
    return FileResponse(file, as_attachment=True, filename=f"{size}.bin")
