"""Response heads and bodies as bytes. What is not valid HTTP does not leave here.

Names are judged once and remembered; values are checked all together, by one pass over
the finished head. Who sends the bytes, and when, is not this module's business.
"""

from __future__ import annotations

import re
from enum import IntEnum
from html import escape
from http import HTTPStatus

from django_wsgiserve.errors import ResponseError
from django_wsgiserve.protocol.messages import RequestHead


class _Name(IntEnum):
    """What is special about a header name; nothing about `PLAIN`, which is falsy."""

    PLAIN = 0
    CONTENT_LENGTH = 1
    CONNECTION = 2
    DATE = 3
    SERVER = 4
    HOP_BY_HOP = 5


# Reading a member of an enumeration is a call on CPython 3.11, reading a global is not.
_NO_CONTENT = HTTPStatus.NO_CONTENT.value
_BODILESS_CODES = {_NO_CONTENT, HTTPStatus.NOT_MODIFIED.value}
_IS_CONTENT_LENGTH = _Name.CONTENT_LENGTH

# PEP 3333 "Other HTTP Features": these belong to the connection, which is ours.
_SPECIAL_NAMES = {
    "content-length": _Name.CONTENT_LENGTH,
    "connection": _Name.CONNECTION,
    "date": _Name.DATE,
    "server": _Name.SERVER,
    "keep-alive": _Name.HOP_BY_HOP,
    "proxy-authenticate": _Name.HOP_BY_HOP,
    "proxy-authorization": _Name.HOP_BY_HOP,
    "proxy-connection": _Name.HOP_BY_HOP,
    "te": _Name.HOP_BY_HOP,
    "trailer": _Name.HOP_BY_HOP,
    "trailers": _Name.HOP_BY_HOP,
    "transfer-encoding": _Name.HOP_BY_HOP,
    "upgrade": _Name.HOP_BY_HOP,
}
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS = re.compile(r"([2-9][0-9]{2}) [\t -~\x80-\xff]*")
_CONTENT_LENGTH = re.compile(r"[0-9]{1,18}")
# All that may stand between two CRLFs: the rest, CR and LF among it, is counted.
_TEXT_BYTES = bytes(byte for byte in range(256) if byte == 0x09 or 0x20 <= byte != 0x7F)

# What is remembered is forgotten at once when it is too much: an application that invents
# names (or reasons) then costs a little, and does not slow the usual ones down for good.
_REMEMBERED_MAX = 1024

_LAST_CHUNK = b"0\r\n\r\n"
_CHUNKED_LINE = b"Transfer-Encoding: chunked\r\n"
_CLOSE_LINE = b"Connection: close\r\n"
_KEEP_ALIVE_LINE = b"Connection: keep-alive\r\n"


class _Names(dict[str, _Name]):
    """The header names seen so far. Bounded."""

    def __missing__(self, name: object) -> _Name:
        if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
            raise ResponseError(f"{name!r} is not a header name")
        kind = _SPECIAL_NAMES.get(name.lower(), _Name.PLAIN)
        if len(self) >= _REMEMBERED_MAX:
            self.clear()
        self[name] = kind
        return kind


class _Codes(dict[str, int]):
    """The codes of the status lines seen so far. Bounded."""

    def __missing__(self, status: object) -> int:
        match = _STATUS.fullmatch(status) if isinstance(status, str) else None
        if match is None:
            raise ResponseError(f"{status!r} is not a status such as '200 OK'")
        code = int(match[1])
        if len(self) >= _REMEMBERED_MAX:
            self.clear()
        self[match[0]] = code
        return code


_names = _Names()
_codes = _Codes()


class ResponseEncoder:
    """Turns one response into bytes: `head` once, `data` for each piece, `end` once.

    Measured with `sys.setprofile` on CPython 3.11: creation, a head of 6 headers, one
    `data` and `end` make 10 calls, Python and C together.
    """

    __slots__ = (
        "_chunked",
        "_date",
        "_left",
        "_length",
        "_method",
        "_version",
        "has_body",
        "head_made",
        "keep_alive",
        "raw",
    )

    keep_alive: bool
    """Valid after `head`: whether the connection persists."""
    has_body: bool
    """Valid after `head`: False for HEAD, 204 and 304, whose data is dropped."""
    head_made: bool
    """Whether `head` was called: what it announced can no longer be changed."""
    raw: bool
    """Valid after `head`: `data` returns its argument unchanged."""

    def __init__(self, request: RequestHead | None, *, keep_alive: bool, date: bytes) -> None:
        """Prepare the answer to `request`.

        Args:
            request: `None` when its head was unreadable: the connection closes then.
            keep_alive: Whether the server is willing to keep the connection; the client
                and the application must be, too.
            date: Complete `Date` and `Server` lines, each with its CRLF. One that the
                application sets itself is left out.
        """
        if request is None:
            self._method = self._version = ""
            self.keep_alive = False
        else:
            self._method = request.method
            self._version = request.version
            self.keep_alive = keep_alive and request.keep_alive
        self._date = date
        self.head_made = self._chunked = False
        self._length: int | None = None
        self._left: int | None = None
        self.has_body = self.raw = False

    def head(self, status: str, headers: list[tuple[str, str]], body_bytes: int | None) -> bytes:
        """Return the response head, framing decided.

        Args:
            status: `200 OK`; the reason may be empty, the space before it must be there.
            headers: As given to `start_response`. `Content-Length` is kept, except on a
                204. `Connection: close` is honoured by closing: PEP 3333 forbids it, but
                it can mean one thing only, and applications that set it work elsewhere.
            body_bytes: The length of the whole body when the server knows it; used when
                the application gives no `Content-Length`.

        Raises:
            ResponseError: Status or headers are not what PEP 3333 and HTTP allow. Nothing
                else is raised, whatever they are.
        """
        if self.head_made:
            raise ResponseError("the response head was made already")
        try:
            code = _codes[status]
            text = f"HTTP/1.1 {status}\r\n"
            lines = 1
            for name, value in headers:
                kind = _names[name]
                if value.__class__ is not str and not isinstance(value, str):
                    raise ResponseError(f"the value of {name!r} is not a string: {value!r}")
                if kind and not self._keeps(kind, name, value, code):
                    continue
                text += f"{name}: {value}\r\n"
                lines += 1
            head = text.encode("latin-1")
        except (TypeError, ValueError) as error:
            raise ResponseError(f"status or headers are malformed: {error}") from error
        # Only the CRLF of each line may be left over. A line break in a value would let
        # whoever wrote the value write headers; it never leaves the server.
        if head.translate(None, _TEXT_BYTES) != b"\r\n" * lines:
            raise ResponseError(f"a control character in the response headers {headers!r}")
        self.head_made = True
        return head + self._date + self._frame(code, body_bytes)

    def whole(
        self, status: str, headers: list[tuple[str, str]], body: bytes, body_bytes: int | None
    ) -> tuple[bytes, bytes]:
        """Return head and body of a response that is complete: `head`, `data` and `end` at once.

        Args:
            status: As for `head`.
            headers: As for `head`.
            body: All of it.
            body_bytes: `len(body)`, which the caller has at hand, and which is not checked;
                None leaves the length unsaid.

        Raises:
            ResponseError: As those three.
        """
        head = self.head(status, headers, body_bytes)
        # Without a length to compare the body may be chunked: None must not equal None.
        if body_bytes is not None and self._left == body_bytes:
            self._left = 0
            return head, body
        return head, self.data(body) + self.end()

    def data(self, chunk: bytes) -> bytes:
        """Return `chunk` as it goes over the wire; `b""` when the response has no body.

        Raises:
            ResponseError: The body is longer than Content-Length (no byte of `chunk` is to
                be sent), `chunk` is not bytes, or the head is not made.
        """
        if chunk.__class__ is not bytes and not isinstance(chunk, bytes):
            raise ResponseError(f"a piece of the body is not bytes: {chunk!r:.80}")
        left = self._left
        if left is not None:
            left -= len(chunk)
            if left < 0:
                raise ResponseError(f"the body is longer than its Content-Length of {self._length}")
            self._left = left
            return chunk
        if self._chunked:
            # An empty chunk would end the body (RFC 9112 section 7.1).
            return b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunk else b""
        if not self.head_made:
            raise ResponseError("a body before the response head")
        return chunk if self.raw else b""

    def end(self) -> bytes:
        """Return what ends the body: the last chunk, or nothing.

        Raises:
            ResponseError: The body is shorter than Content-Length, or the head is not
                made. The connection must close: the client still waits for the rest.
        """
        if self._left:
            raise ResponseError(
                f"the body ended {self._left} bytes short of its Content-Length of {self._length}"
            )
        if self._chunked:
            return _LAST_CHUNK
        if not self.head_made:
            raise ResponseError("the response ended before its head")
        return b""

    def _keeps(self, kind: _Name, name: str, value: str, code: int) -> bool:
        """Return whether the line of a special header is sent; take note of what it says."""
        if kind is _IS_CONTENT_LENGTH:
            if self._length is not None:
                raise ResponseError("the response has two Content-Length headers")
            if _CONTENT_LENGTH.fullmatch(value) is None:
                raise ResponseError(f"Content-Length {value!r} is not a number")
            self._length = int(value)
            return code != _NO_CONTENT  # RFC 9110 section 8.6
        if kind is _Name.CONNECTION and value.strip(" \t").lower() == "close":
            self.keep_alive = False
            return False
        if kind is _Name.DATE or kind is _Name.SERVER:
            own = name.lower().encode() + b":"
            lines = self._date.splitlines(keepends=True)
            self._date = b"".join(line for line in lines if not line.lower().startswith(own))
            return True
        raise ResponseError(f"{name}: {value} is about the connection, which is the server's")

    def _frame(self, code: int, body_bytes: int | None) -> bytes:
        """Decide how the body ends. Return the lines that say so, and the empty line.

        Source: RFC 9112 sections 6.3 and 9.3, RFC 9110 sections 8.6 and 15.3.5.
        """
        bodiless = code in _BODILESS_CODES
        to_head = self._method == "HEAD"
        self.has_body = not (bodiless or to_head)
        lines = b""
        # An empty body for HEAD says nothing about how long GET's would be.
        unknown = self._length is None and not bodiless
        if unknown and body_bytes is not None and (body_bytes or not to_head):
            self._length = body_bytes
            lines = b"Content-Length: %d\r\n" % body_bytes
        if self.has_body:
            if self._length is not None:
                self._left = self._length
            elif self._version == "HTTP/1.1":
                self._chunked = True
                lines = _CHUNKED_LINE
            else:
                self.keep_alive = False  # the end of the connection is the end of the body
            self.raw = not self._chunked
        if not self.keep_alive:
            return lines + _CLOSE_LINE + b"\r\n"
        if self._version == "HTTP/1.0":
            return lines + _KEEP_ALIVE_LINE + b"\r\n"
        return lines + b"\r\n"


def whole_head(
    status: str,
    headers: list[tuple[str, str]],
    body_bytes: int,
    date: bytes,
    *,
    keep_alive: bool = True,
) -> bytes | None:
    """Return the head of a response that is complete and has nothing special about it.

    For nearly every response, by three calls, itself counted, where `ResponseEncoder` takes
    twice as many and an object. What it writes is what that writes.

    Args:
        status: As for `ResponseEncoder.head`.
        headers: As for `ResponseEncoder.head`.
        body_bytes: The length of the body, which follows.
        date: As for `ResponseEncoder`.
        keep_alive: Whether the connection persists, as far as the caller is concerned.

    Returns:
        The head for a client that did not ask for it with HEAD, and that speaks HTTP/1.1
        unless its connection closes; `None` when `ResponseEncoder` has to say what, or what is
        wrong.
    """
    length: str | None = f"{body_bytes}"
    try:
        code = _codes[status]
        text = f"HTTP/1.1 {status}\r\n"
        lines = 1
        for name, value in headers:
            kind = _names[name]
            if kind:
                if kind is not _IS_CONTENT_LENGTH or value != length:
                    return None
                length = None  # said; a second one differs from that
            elif value.__class__ is not str:
                return None
            text += f"{name}: {value}\r\n"
            lines += 1
        head = text.encode("latin-1")
    except (TypeError, ValueError, ResponseError):
        return None
    if code in _BODILESS_CODES or head.translate(None, _TEXT_BYTES) != b"\r\n" * lines:
        return None
    end = b"\r\n" if keep_alive else _CLOSE_LINE + b"\r\n"
    if length is None:
        return head + date + end
    return head + date + b"Content-Length: %d\r\n%b" % (body_bytes, end)


def error_response(error_status: HTTPStatus, date: bytes, *, body: bool = True) -> bytes:
    """Return a whole response that says `error_status` and closes the connection.

    The page holds nothing but the status: neither what was received nor what went wrong.

    Args:
        error_status: The 4xx or 5xx to say.
        date: As for `ResponseEncoder`.
        body: False for the answer to HEAD, which has the same head.
    """
    phrase = escape(error_status.phrase)
    page = (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{error_status.value} {phrase}</title></head>\n"
        f"<body><h1>{phrase}</h1></body>\n</html>\n"
    ).encode()
    head = (
        f"HTTP/1.1 {error_status.value} {error_status.phrase}\r\n"
        "Content-Type: text/html; charset=utf-8\r\n"
        f"Content-Length: {len(page)}\r\n"
    ).encode()
    return head + date + _CLOSE_LINE + b"\r\n" + (page if body else b"")
