"""Applications that fail, and what clients get to see of it."""

from __future__ import annotations

from tests.wsgi.serving import Served


def boom() -> None:
    raise ValueError("boom")


def assert_500(served: Served) -> None:
    """Check that the client got a whole error page that tells nothing."""
    response = served.response()
    body = response.read()
    assert response.status == served.outcome.status == 500
    assert response.getheader("Content-Type", "").startswith("text/html")
    assert response.getheader("Connection") == "close"
    assert response.getheader("Date")
    assert dict(served.outcome.headers)["Content-Length"] == str(len(body))
    assert served.outcome.body_bytes == len(body) > 0
    assert b"boom" not in served.wire
    assert not served.outcome.keep_alive
    assert not served.outcome.aborted
    assert len(served.sink.parts) == 1


def assert_cut_short(served: Served) -> None:
    """Check that the connection closes with the response visibly not whole."""
    assert served.outcome.aborted
    assert not served.outcome.keep_alive
    assert b"500" not in served.wire
    assert not served.wire.endswith(b"0\r\n\r\n")
