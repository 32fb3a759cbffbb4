"""The values the protocol speaks in: a request head, its limits, the end of a body."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of a request is read before it is refused. Sizes in bytes, without CRLF."""

    request_line: int = 8190
    fields: int = 100
    field_size: int = 8190
    body: int = 0
    """0: no limit."""


class RequestHead:
    """One valid request head. Made by `grammar.parse_head` only, never changed after.

    A plain slotted class and not a frozen dataclass: `__init__` of the latter costs
    one `object.__setattr__` a field on the hottest path of the server.
    """

    __slots__ = (
        "authority",
        "chunked",
        "content_length",
        "expect_continue",
        "headers",
        "keep_alive",
        "method",
        "path",
        "query",
        "target",
        "version",
    )

    method: str
    """A token, case kept: `GET`."""
    target: str
    """The request target as received, decoded as Latin-1."""
    path: str
    """The absolute path, still percent-encoded, Latin-1; `*` for `OPTIONS *`."""
    query: str
    """What follows the first `?`, without it; empty when there is none."""
    version: str
    """`HTTP/1.1` or `HTTP/1.0`; a higher minor version reads as 1.1 (RFC 9110 2.5)."""
    headers: dict[str, str]
    """Shared with the next request of the connection, if its fields are the same.
    Lower-case names; values Latin-1 without surrounding white space. Repeated fields
    are joined with `, ` in order (RFC 9110 5.3), cookies with `; `. `host` is always
    `authority`: that of an absolute-form target replaces what was received. No trailers."""
    authority: str
    """The host the request is for: of an absolute-form target, else the Host field."""
    content_length: int
    """Bytes of body announced; 0 when there is none or it is chunked."""
    chunked: bool
    keep_alive: bool
    """Whether the client wants the connection to persist (RFC 9112 section 9.3)."""
    expect_continue: bool
    """The client waits for `100 Continue` before it sends the body; False without a body."""


class EndOfBody(Enum):
    """The body of the current request is complete."""

    END = "end of body"


END = EndOfBody.END
