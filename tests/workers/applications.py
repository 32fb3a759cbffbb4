"""Applications for the worker to run."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


def digest(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
    """Answer with what came: its length and its SHA-256."""
    body = environ["wsgi.input"].read()
    answer = f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


def digest_of(body: bytes) -> bytes:
    """Return what `digest` answers to `body`."""
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
