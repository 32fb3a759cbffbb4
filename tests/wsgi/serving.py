"""One request through the real parser, environ, gateway and encoder, without a socket."""

from __future__ import annotations

import http.client
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from django_wsgiserve.events import AppFailed, EventBus
from django_wsgiserve.protocol.grammar import parse_head
from django_wsgiserve.protocol.messages import Limits
from django_wsgiserve.wsgi.body import EMPTY_BODY, BodySpool
from django_wsgiserve.wsgi.environ import EnvironFactory
from django_wsgiserve.wsgi.gateway import Gateway
from django_wsgiserve.wsgi.reply import Outcome, Reply

if TYPE_CHECKING:
    import socket

    from django_wsgiserve.protocol.messages import RequestHead

App = Callable[[dict[str, Any], Any], Any]
DATE_LINES = b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nServer: test\r\n"


class MemorySink:
    """A client that keeps what it is sent, in the parts it was sent in."""

    def __init__(self, *, leaves_after: int | None = None) -> None:
        """Listen; `leaves_after` is the number of parts after which it is gone."""
        self.parts: list[bytes] = []
        self.files: list[tuple[int, int]] = []
        self._fds: list[tuple[int, int, int, int]] = []
        self._leaves_after = leaves_after
        self.refused = 0

    def send(self, data: bytes) -> bool:
        """Keep `data`."""
        assert isinstance(data, bytes)
        assert data, "an empty send is a wasted system call"
        if self._leaves_after is not None and len(self.parts) >= self._leaves_after:
            self.refused += 1
            return False
        self.parts.append(data)
        return True

    def send_file(self, fd: int, offset: int, count: int) -> bool:
        """Keep a duplicate of `fd`, and read it only when everything is over."""
        if not self.send(b"(file)"):
            return False
        self._fds.append((len(self.parts) - 1, os.dup(fd), offset, count))
        self.files.append((offset, count))
        return True

    def received(self) -> bytes:
        """Return every byte, after which the sink is used up."""
        for index, fd, offset, count in self._fds:
            self.parts[index] = os.pread(fd, count, offset)
            os.close(fd)
        self._fds.clear()
        return b"".join(self.parts)


class _ClosedConnection:
    """What `http.client` reads a response from: all that came, then the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


@dataclass(frozen=True)
class Served:
    """What one request led to."""

    outcome: Outcome
    sink: MemorySink
    failures: list[AppFailed]
    environ: dict[str, Any]
    wire: bytes
    method: str

    def response(self) -> http.client.HTTPResponse:
        """Return the response as Python's own client understands it, head read."""
        connection = cast("socket.socket", _ClosedConnection(self.wire))
        response = http.client.HTTPResponse(connection, method=self.method)
        response.begin()
        return response

    @property
    def body(self) -> bytes:
        """The body as the client understands it; raises when it is cut short."""
        return self.response().read()

    @property
    def failure(self) -> AppFailed:
        """The only failure that was reported."""
        (failure,) = self.failures
        return failure


def head(method: str = "GET", target: str = "/", *fields: str, version: str = "1.1") -> RequestHead:
    """Return a parsed request head for `example.org`."""
    lines = [f"{method} {target} HTTP/{version}", "Host: example.org", *fields]
    return parse_head("\r\n".join(lines).encode("latin-1"), Limits())


def factory(**options: Any) -> EnvironFactory:
    """Return an `EnvironFactory` for a listener on port 8000."""
    return EnvironFactory(
        **{
            "server_name": "127.0.0.1",
            "server_port": "8000",
            "multithread": False,
            "multiprocess": True,
            **options,
        }
    )


def serve(
    app: App,
    request: RequestHead | None = None,
    *,
    body: bytes = b"",
    sink: MemorySink | None = None,
    keep_alive: bool = True,
) -> Served:
    """Run `app` for one request, `GET /` unless another is given."""
    request = request or head()
    sink = sink or MemorySink()
    events = EventBus()
    failures: list[AppFailed] = []
    events.subscribe(AppFailed, failures.append)
    spool = BodySpool(memory_bytes=1024, directory=None)
    spool.write(body)
    environ = factory().build(
        request, ("192.0.2.1", "50000"), spool.rewind() if body else EMPTY_BODY, len(body)
    )
    reply = Reply(request, sink, keep_alive=keep_alive, date=DATE_LINES)
    Gateway(app, events).run(environ, reply)
    spool.close()
    return Served(reply, sink, failures, environ, sink.received(), request.method)
