"""Reads bytes with a `RequestReader` to the end, into values that can be compared."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from django_wsgiserve.errors import ProtocolError
from django_wsgiserve.protocol.connection import RequestReader
from django_wsgiserve.protocol.messages import END, EndOfBody, Limits, RequestHead

HOST = b"Host: example.org\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Message:
    """One request as it was read.

    Attributes:
        head: Every slot of the `RequestHead` by name.
        body: What came of the body.
        whole: The body ended; True as well for a request without one.
    """

    head: dict[str, object]
    body: bytes = b""
    whole: bool = True


@dataclass
class Reading:
    """All that one connection said."""

    messages: list[Message] = field(default_factory=list)
    error: ProtocolError | None = None

    @property
    def comparable(self) -> tuple[list[Message], type[ProtocolError] | None]:
        """What must not depend on how the bytes were cut."""
        return self.messages, None if self.error is None else type(self.error)


def head_values(head: RequestHead) -> dict[str, object]:
    """Return every slot of `head` by name."""
    return {name: getattr(head, name) for name in RequestHead.__slots__}


def read(pieces: Iterable[bytes], limits: Limits | None = None, *, eof: bool = False) -> Reading:
    """Return what `pieces`, received one after another, amount to.

    Args:
        pieces: None of them empty.
        limits: The defaults when None.
        eof: The peer closes after the last piece.
    """
    reader = RequestReader(limits or Limits())
    reading = Reading()
    for piece in [*pieces, b""] if eof else pieces:
        _drain(reader, reading, lambda piece=piece: reader.take(piece))  # type: ignore[misc]
    return reading


def read_in_two_steps(
    pieces: Iterable[bytes], limits: Limits | None = None, *, eof: bool = False
) -> Reading:
    """Return the same as `read`, by `receive` and `next_event` only."""
    reader = RequestReader(limits or Limits())
    reading = Reading()
    for piece in [*pieces, b""] if eof else pieces:
        reader.receive(piece)
        _drain(reader, reading, reader.next_event)
    return reading


def _drain(
    reader: RequestReader,
    reading: Reading,
    first: Callable[[], RequestHead | bytes | EndOfBody | None],
) -> None:
    """Put all events that `reader` has into `reading`; the first is what `first` returns."""
    messages = reading.messages
    try:
        event = first()
        while event is not None:
            if isinstance(event, RequestHead):
                messages.append(Message(head_values(event)))
                messages[-1].whole = not (event.chunked or event.content_length)
            elif event is END:
                assert not messages[-1].whole
                messages[-1].whole = True
            else:
                assert type(event) is bytes
                assert event
                assert not messages[-1].whole
                messages[-1].body += event
            event = reader.next_event()
    except ProtocolError as error:
        reading.error = error


def chunk(data: bytes, size: int) -> list[bytes]:
    """Return `data` in pieces of `size`, the last one perhaps shorter."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def reader_after(*pieces: bytes) -> RequestReader:
    """Return a reader that has received `pieces` and given out the events of none."""
    reader = RequestReader(Limits())
    for piece in pieces:
        reader.receive(piece)
    return reader


def sized(body_bytes: int) -> bytes:
    """Return the head of a POST with this Content-Length."""
    return b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % body_bytes


def calls_of(function: Callable[[], object]) -> list[str]:
    """Return the names of what `function` calls, in Python and in C, itself not counted."""
    calls: list[str] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            calls.append(frame.f_code.co_name)
        elif event == "c_call":
            calls.append(argument.__name__)

    previous = sys.getprofile()
    sys.setprofile(note)
    function()
    sys.setprofile(previous)
    return calls[1:-1]
