"""Views that behave."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse

from demo.version import VERSION


def home(request: HttpRequest) -> HttpResponse:
    """Answer, in few words."""
    return HttpResponse("at home")


def hello(request: HttpRequest) -> HttpResponse:
    """Repeat the token: an answer that reaches the wrong request shows."""
    token = request.GET.get("token", "none")
    return HttpResponse(f"{token} {VERSION} {os.getpid()}", content_type="text/plain")


def whoami(request: HttpRequest) -> HttpResponse:
    """Tell which process answers, and what it sees of the request."""
    return JsonResponse(
        {
            "pid": os.getpid(),
            "ppid": os.getppid(),
            "version": VERSION,
            "host": request.get_host(),
            "path": request.path,
            "peer": request.META["REMOTE_ADDR"],
            "port": request.META["SERVER_PORT"],
        }
    )


def echo(request: HttpRequest) -> HttpResponse:
    """Report length and SHA-256 of the body."""
    digest, length = hashlib.sha256(), 0
    while block := request.read(65536):
        digest.update(block)
        length += len(block)
    return JsonResponse({"sha256": digest.hexdigest(), "bytes": length, "method": request.method})


def large(request: HttpRequest) -> HttpResponse:
    """Answer with as many bytes as asked for, all at once."""
    return HttpResponse(b"x" * int(request.GET["bytes"]), content_type="text/plain")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Answer with numbered lines, one at a time."""
    count = int(request.GET.get("lines", "3"))

    def lines() -> Iterator[str]:
        for number in range(count):
            yield f"line {number}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


def download(request: HttpRequest) -> FileResponse:
    """Send the file `download.bin` of the project's directory."""
    return FileResponse(Path(settings.BASE_DIR, "download.bin").open("rb"))


def status(request: HttpRequest, status: int) -> HttpResponse:
    """Answer with the status asked for."""
    return HttpResponse(status=status)
