"""Pages without Django that hello does not have: large, uploaded, streamed, waited for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LARGE = b"x" * 65536
STREAMED_CHUNK = b"." * 4095 + b"\n"
STREAMED_CHUNKS = 16
READ_BYTES = 65536


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer `/large`, `/upload`, `/stream`, `/wait/<milliseconds>`, anything else with `ok`."""
    path: str = environ["PATH_INFO"]
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return _stream()
    if path == "/large":
        body = LARGE
    elif path == "/upload":
        body = b"%d\n" % _read(environ)
    elif path.startswith("/wait/"):
        time.sleep(int(path.removeprefix("/wait/")) / 1000)
        body = b"waited\n"
    else:
        body = b"ok\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _read(environ: dict[str, Any]) -> int:
    """Return the bytes of the body, read in pieces and never beyond its announced length."""
    left = announced = int(environ.get("CONTENT_LENGTH") or 0)
    while left > 0:
        piece = environ["wsgi.input"].read(min(left, READ_BYTES))
        if not piece:
            break
        left -= len(piece)
    return announced - left


def _stream() -> Iterator[bytes]:
    for _ in range(STREAMED_CHUNKS):
        yield STREAMED_CHUNK
