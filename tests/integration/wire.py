"""A client connection that sees exactly what came over the wire.

Deliberately naive on the way out (it sends whatever bytes it is given) and strict on the
way in: an answer that is not whole is a `BrokenAnswer`, never an `Answer`.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""

ANSWER_S = 30.0
"""Every wait for the server ends here; passing tests never come near it."""


class Breakage(Enum):
    """The ways in which an answer can fail to be one."""

    REFUSED = "the connection was refused"
    RESET = "the connection was reset"
    MISSING = "the connection closed before the first byte of an answer"
    SHORT = "the connection closed within an answer"
    MALFORMED = "what came is not HTTP"
    LATE = "nothing came in time"


class BrokenAnswer(Exception):
    """The server did not give a whole answer."""

    def __init__(self, breakage: Breakage, received: bytes = b"") -> None:
        super().__init__(f"{breakage.value}; received {received[:300]!r}")
        self.breakage = breakage
        self.received = received


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole response.

    Attributes:
        headers: Lower-case names; values of repeated fields joined by a line feed.
        body: Without chunk framing.
    """

    version: str
    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @property
    def keeps_alive(self) -> bool:
        """Whether the server promises to read another request from this connection."""
        connection = self.headers.get("connection", "").lower()
        if self.version == "HTTP/1.0":
            return connection == "keep-alive"
        return connection != "close"


class Wire:
    """One connection to the server, by blocking socket."""

    def __init__(self, address: Address, *, timeout_s: float = ANSWER_S) -> None:
        self.address = address
        family = socket.AF_UNIX
        if not isinstance(address, str):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        self.buffer = bytearray()
        try:
            self.socket.connect(address)
            if family != socket.AF_UNIX:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            self.socket.close()
            raise BrokenAnswer(_breakage_of(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close without ceremony."""
        self.socket.close()

    def reset(self) -> None:
        """Leave with an RST, as a client that crashed or gave up does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            BrokenAnswer: The server closed or reset before it took everything.
        """
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise BrokenAnswer(_breakage_of(error)) from error

    def request(self, method: str, path: str, *fields: str, body: bytes = b"") -> Answer:
        """Send one request and return its answer.

        Host and Content-Length are set; `fields` are further header lines without line end.
        """
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields]
        if body or method in {"POST", "PUT"}:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return self.receive(method)

    def receive(self, method: str = "GET") -> Answer:
        """Return the next answer, of a request with `method`.

        Raises:
            BrokenAnswer: It did not come, or not whole.
        """
        head = self._take_head()
        status_line, *lines = head.split("\r\n")
        version, _, rest = status_line.partition(" ")
        code, _, reason = rest.partition(" ")
        if not version.startswith("HTTP/1.") or not code.isdigit():
            raise BrokenAnswer(Breakage.MALFORMED, head.encode("latin-1"))
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise BrokenAnswer(Breakage.MALFORMED, head.encode("latin-1"))
            earlier = headers.get(name.lower())
            value = value.strip()
            headers[name.lower()] = value if earlier is None else f"{earlier}\n{value}"
        status = int(code)
        body = b""
        if method != "HEAD" and status not in {204, 304} and status >= 200:
            body = self._take_body(headers)
        return Answer(version, status, reason, headers, body)

    def until_close(self) -> bytes:
        """Return everything until the server closes in order; raise when it resets."""
        try:
            while self._fill():
                pass
        except BrokenAnswer as broken:
            raise BrokenAnswer(broken.breakage, bytes(self.buffer)) from broken
        return self._take(len(self.buffer))

    @property
    def is_closed_by_server(self) -> bool:
        """Whether the server has nothing more to say and closed. Waits for it."""
        try:
            return self.until_close() == b""
        except BrokenAnswer as broken:
            return broken.breakage is Breakage.RESET and broken.received == b""

    def _fill(self) -> int:
        try:
            data = self.socket.recv(262144)
        except OSError as error:
            raise BrokenAnswer(_breakage_of(error), bytes(self.buffer)) from error
        self.buffer += data
        return len(data)

    def _fill_or_break(self, *, within: bool) -> None:
        if not self._fill():
            breakage = Breakage.SHORT if within or self.buffer else Breakage.MISSING
            raise BrokenAnswer(breakage, bytes(self.buffer))

    def _take(self, count: int) -> bytes:
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def _take_head(self) -> str:
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self._fill_or_break(within=False)
        return self._take(end + 4)[:-4].decode("latin-1")

    def _take_exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._fill_or_break(within=True)
        return self._take(count)

    def _take_line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n")) < 0:
            self._fill_or_break(within=True)
        return self._take(end + 2)[:-2]

    def _take_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            chunks = []
            while size := int(self._take_line(), 16):
                chunks.append(self._take_exactly(size))
                if self._take_exactly(2) != b"\r\n":
                    raise BrokenAnswer(Breakage.MALFORMED, b"chunk without line end")
            while self._take_line():
                pass
            return b"".join(chunks)
        if "content-length" in headers:
            return self._take_exactly(int(headers["content-length"]))
        return self.until_close()


def _breakage_of(error: OSError) -> Breakage:
    if isinstance(error, TimeoutError):
        return Breakage.LATE
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return Breakage.REFUSED
    return Breakage.RESET
