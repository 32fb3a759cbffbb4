"""The client's half of a test: bytes out, exact answers in."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """One response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether it announces the connection's end."""
        return self.headers.get("connection", "").lower() == "close"


class AnswerReader:
    """Reads responses off a socket, one after another, and takes no byte too many."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._held = b""

    def _more(self) -> None:
        data = self._sock.recv(1 << 20)
        if not data:
            raise EOFError(f"the connection ended after {self._held[:200]!r}")
        self._held += data

    def _take(self, count: int) -> bytes:
        pieces, left = [self._held[:count]], count - len(self._held)
        self._held = self._held[count:]
        while left > 0:
            data = self._sock.recv(1 << 20)
            if not data:
                raise EOFError(f"{left} of {count} bytes did not come")
            pieces.append(data[:left])
            self._held = data[left:]
            left -= len(data)
        return b"".join(pieces)

    def _line(self) -> bytes:
        while b"\r\n" not in self._held:
            self._more()
        line, _, self._held = self._held.partition(b"\r\n")
        return line

    def read(self, *, head_only: bool = False) -> Answer:
        """Return the next response; `head_only` for the answer to HEAD."""
        while b"\r\n\r\n" not in self._held:
            self._more()
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        status = int(status_line.split(" ")[1])
        body = b""
        if not head_only and status >= 200 and status not in (204, 304):
            body = self._body(headers)
        return Answer(status, headers, body)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            pieces = []
            while size := int(self._line(), 16):
                pieces.append(self._take(size))
                self._line()
            self._line()
            return b"".join(pieces)
        if "content-length" in headers:
            return self._take(int(headers["content-length"]))
        return self._held + self.read_to_end()

    def read_to_end(self) -> bytes:
        """Return everything until the server closes."""
        pieces = [self._held]
        self._held = b""
        while data := self._sock.recv(1 << 20):
            pieces.append(data)
        return b"".join(pieces)


def get(path: str, *fields: str, version: str = "HTTP/1.1") -> bytes:
    """Return a request without a body."""
    lines = [f"GET {path} {version}", "Host: test", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(path: str, body: bytes, *fields: str) -> bytes:
    """Return a request with a body of known length."""
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def ask(sock: socket.socket, request: bytes) -> Answer:
    """Send a request and return its answer."""
    sock.sendall(request)
    return AnswerReader(sock).read()


def reset(client: socket.socket) -> None:
    """Close with an RST, as a client that crashed or was cut off does."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
