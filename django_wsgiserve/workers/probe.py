"""A request that a new worker sends to itself before it is trusted with others' requests.

It goes the whole way, from bytes to bytes, in the forked process: what breaks only
after a fork (a library's threads, a lock held by one of them) shows here and not at
the first visitor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_wsgiserve.originals import socketpair

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_STATUS_BYTES = len("HTTP/1.1 200")


class Probe:
    """The client's end of a socketpair whose other end the worker serves."""

    def __init__(self, path: str, host: str, scheme: str) -> None:
        """Store what to ask for: a path, a host that ALLOWED_HOSTS accepts, `http` or `https`."""
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: {scheme}\r\n"
            "User-Agent: django-wsgiserve\r\nConnection: close\r\n\r\n"
        ).encode("latin-1")
        self._sock: socket.socket | None = None
        self._answer = b""

    def connect(self) -> socket.socket:
        """Send the request; return the server's end."""
        client, server = socketpair()
        client.setblocking(False)
        client.send(self._request)
        self._sock = client
        return server

    def fileno(self) -> int:
        """The descriptor to watch for the answer."""
        return -1 if self._sock is None else self._sock.fileno()

    def read(self, answered: Callable[[int], None]) -> bool:
        """Read what came; once the status is known, tell it. True: the probe is over.

        The status is 0 when the connection ended without an answer.
        """
        sock = self._sock
        if sock is None:
            return True
        try:
            data = sock.recv(_STATUS_BYTES - len(self._answer))
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self._answer += data
        if data and len(self._answer) < _STATUS_BYTES:
            return False
        answered(int(self._answer[9:12]) if len(self._answer) == _STATUS_BYTES else 0)
        return True

    def close(self) -> None:
        """Close the client's end; the rest of the answer is of no interest."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
