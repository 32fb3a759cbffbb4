"""Events as the core emits them, for tests to change in one place each."""

from __future__ import annotations

from typing import Any

from django_wsgiserve.events import RequestFinished
from django_wsgiserve.protocol.messages import RequestHead

STARTED_AT_S = 1789999999.25


def head(**changes: Any) -> RequestHead:
    """Return a request head; `changes` are its attributes."""
    values: dict[str, Any] = {
        "method": "GET",
        "target": "/books/caf%C3%A9?page=2",
        "path": "/books/caf%C3%A9",
        "query": "page=2",
        "version": "HTTP/1.1",
        "headers": {
            "host": "library.example",
            "referer": "https://library.example/",
            "user-agent": "Mozilla/5.0 (X11; Linux x86_64)",
        },
        "authority": "library.example",
        "content_length": 0,
        "chunked": False,
        "keep_alive": True,
        "expect_continue": False,
    }
    request = RequestHead()
    for name, value in {**values, **changes}.items():
        setattr(request, name, value)
    return request


def finished(**changes: Any) -> RequestFinished:
    """Return a finished request; `changes` are attributes of `RequestFinished`."""
    values: dict[str, Any] = {
        "request": head(),
        "request_line": "GET /books/caf%C3%A9?page=2 HTTP/1.1",
        "peer": "192.0.2.7",
        "status": 200,
        "headers": [("Content-Type", "text/html"), ("X-Request-ID", "4711")],
        "sent_bytes": 5120,
        "started_at_s": STARTED_AT_S,
        "duration_s": 1.234567,
        "environ": {"REMOTE_ADDR": "192.0.2.7", "wsgi.url_scheme": "https"},
        "aborted": False,
    }
    event = RequestFinished()
    for name, value in {**values, **changes}.items():
        setattr(event, name, value)
    return event


def raised(error: Exception) -> Exception:
    """Return `error` with a traceback, as it is when it has been raised and caught."""
    try:
        raise error  # noqa: TRY301  # to be caught is all it is for
    except Exception as caught:  # the one above
        return caught
