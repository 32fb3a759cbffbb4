"""What the core tells whoever listens, and the bus that carries it.

The core never logs: it emits, and `logs`, the scoreboard and Django's signals
observe. An observer that fails must not fail a request, so the bus catches and
reports it; that is why this module is the one below `logs` that imports `logging`.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from django_wsgiserve.protocol.messages import RequestHead

E = TypeVar("E", bound="Event")

# The levels of a `Notice`, for modules that may not import `logging`.
INFO = logging.INFO
WARNING = logging.WARNING
ERROR = logging.ERROR
CRITICAL = logging.CRITICAL


class Event:
    """The root of everything emitted. Slotted classes, not dataclasses: see `RequestHead`."""

    __slots__ = ()


class RequestFinished(Event):
    """The last byte of a response was sent, or never will be.

    Emitted once for every request of which a first byte was received. Made by
    `Connection.finished`, which fills in all of it, and never changed after.
    """

    __slots__ = (
        "aborted",
        "duration_s",
        "environ",
        "headers",
        "peer",
        "request",
        "request_line",
        "sent_bytes",
        "started_at_s",
        "status",
    )

    # No `__init__`: its call would be one of the forty that a request may cost.
    request: RequestHead | None
    """The head; `None` when it could not be parsed."""
    request_line: str
    """`GET / HTTP/1.1` as received (Latin-1), or as much as came."""
    peer: str
    """The client's address without port; empty for a Unix socket."""
    status: int
    """The status sent; 499 when the client left before one was."""
    headers: list[tuple[str, str]]
    """The response's headers, as sent."""
    sent_bytes: int
    """Bytes of body sent, without head and chunk framing."""
    started_at_s: float
    """When the first byte of the request came, Unix time."""
    duration_s: float
    """From that byte until the last one was sent."""
    environ: dict[str, Any] | None
    """The WSGI environ, when the application was called."""
    aborted: bool
    """The response is not whole: the client left, the application broke off, or a deadline
    passed."""


class RequestRejected(Event):
    """The parser refused a request; its `RequestFinished` follows."""

    __slots__ = ("peer", "reason", "status")

    def __init__(self, *, peer: str, status: int, reason: str) -> None:
        self.peer = peer
        self.status = status
        self.reason = reason


class AppFailed(Event):
    """The application raised where nobody but the server could catch it, or broke PEP 3333."""

    __slots__ = ("exception", "request", "summary")

    def __init__(
        self, *, request: RequestHead, summary: str, exception: BaseException | None
    ) -> None:
        self.request = request
        self.summary = summary
        self.exception = exception


class Notice(Event):
    """One line of the operations log.

    Attributes:
        level: A `logging` level number.
        message: One line for people, complete in itself.
        detail: Further lines (a traceback), or empty.
        fields: Machine-readable companions of the message, for JSON logs.
    """

    __slots__ = ("detail", "fields", "level", "message")

    def __init__(self, level: int, message: str, detail: str = "", **fields: Any) -> None:
        self.level = level
        self.message = message
        self.detail = detail
        self.fields = fields


class EventBus:
    """Hands each event to the observers of its type, in the order they subscribed."""

    def __init__(self) -> None:
        self._observers: defaultdict[type[Event], list[Callable[[Any], None]]] = defaultdict(list)

    def subscribe(self, event_type: type[E], observer: Callable[[E], None]) -> None:
        """Call `observer` with every event of exactly `event_type`."""
        self._observers[event_type].append(observer)

    def emit(self, event: Event) -> None:
        """Tell every observer. Raises nothing an observer raised."""
        for observer in self._observers[type(event)]:
            try:
                observer(event)
            except Exception:
                logging.getLogger("django_wsgiserve.server").exception(
                    "an observer of %s failed", type(event).__name__
                )

    def notice(self, level: int, message: str, detail: str = "", **fields: Any) -> None:
        """Emit a `Notice`."""
        self.emit(Notice(level, message, detail, **fields))
