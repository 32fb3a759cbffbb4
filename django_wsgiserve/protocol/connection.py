"""One client connection's input: bytes in, events out. No socket, no clock.

    HEAD ──RequestHead──▶ FIXED or CHUNKED ──bytes …, END──▶ HEAD
      ╰──RequestHead without a body──▶ HEAD
    any ──ProtocolError──▶ that error, for good

Where the end of a head is searched for, and how much of a body has come, is
remembered, so that reading is linear in the bytes however they are cut.
"""

from __future__ import annotations

from enum import Enum

from django_wsgiserve.errors import HeadTooLarge, ProtocolError, RequestLineTooLong
from django_wsgiserve.protocol.chunked import ChunkedDecoder
from django_wsgiserve.protocol.grammar import (
    check_field,
    check_request_line,
    find_line_end,
    parse_head,
    read_start,
)
from django_wsgiserve.protocol.messages import END, EndOfBody, Limits, RequestHead

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""What makes a client with `Expect: 100-continue` send its body (RFC 9110 section 15.2.1)."""

# RFC 9112 section 2.2 asks for one CRLF before a request to be ignored (old clients sent one
# after a POST body); a second is tolerated, a stream of them is not a request.
EMPTY_LINES_MAX = 2
_FIELDS_KEPT_BYTES = 2048


class _State(Enum):
    """What the next byte belongs to."""

    HEAD = "a request head"
    FIXED = "a body of known length"
    CHUNKED = "a chunked body"


_HEAD = _State.HEAD  # a global is cheaper than an attribute on the hot path


class RequestReader:
    """Reads the requests of one connection, one after another.

    Measured with `sys.setprofile` on CPython 3.11: `take` of a whole GET head makes 9
    calls, Python and C together, itself counted, and 5 when its fields are those of the
    last request.
    """

    __slots__ = (
        "_buffer",
        "_decoder",
        "_empty_lines",
        "_eof",
        "_error",
        "_is_over",
        "_known_head",
        "_last_fields",
        "_last_request",
        "_left",
        "_limits",
        "_line_start",
        "_lines",
        "_position",
        "_searched",
        "_state",
        "buffered",
    )

    buffered: bool
    """Bytes are held that no event has given out."""
    _decoder: ChunkedDecoder
    """Of the last chunked body; there when there was one."""
    _last_request: RequestHead
    """The one that had `_last_fields`; there when they are."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._state = _HEAD
        # A bytearray while bytes are left over when more come, else what came, uncopied.
        self._buffer: bytes | bytearray = b""
        self._position = 0
        self._searched = 0
        self._line_start = 0
        self._lines = 0
        self._empty_lines = 0
        self._left = 0
        self._eof = False
        self._is_over = False  # the end of file or an error has come
        self._error: ProtocolError | None = None
        self._known_head: bytes | None = None
        self._last_fields: bytes | None = None
        self.buffered = False

    def take(self, data: bytes) -> RequestHead | bytes | EndOfBody | None:
        """Take what came and return what it amounts to: `receive`, then `next_event`.

        Made for what nearly always comes, one whole head and nothing else: it is then
        neither searched nor copied into the buffer.

        Raises:
            ProtocolError: As `next_event`.
        """
        if data[-4:] == b"\r\n\r\n" and self._state is _HEAD and not self.buffered:
            head = data[:-4]
            # No head begins with a control byte; an empty line before it does. Nor does one
            # end with a line feed; one that is followed by an empty line, or by a body that is
            # one, does here.
            if (
                b"\r\n\r\n" not in head
                and head[:1] > b"\x1f"
                and head[-1:] != b"\n"
                and not self._is_over
            ):
                self._known_head = head
                self._empty_lines = 0
                start, _, fields = head.partition(b" HTTP/1.1\r\n")
                if fields == self._last_fields:
                    request = read_start(start, self._last_request, self._limits)
                    if request is not None:
                        return request
                return self._take_alone(data, fields)
        self.receive(data)
        return self.next_event()

    def _take_alone(self, data: bytes, fields: bytes) -> RequestHead:
        """Return the request that `data` is, and remember its `fields` if they may come again.

        Of most clients every request has the same, to the byte: to see that takes less time
        than to read them. They are not remembered where they are long, for the sake of the
        connections that wait, nor where they announce a body or belong to another target.
        """
        try:
            request = parse_head(data[:-4], self._limits)
        except ProtocolError as error:
            self.receive(data)
            self._fail(error)
            raise
        if request.chunked or request.content_length:
            self._expect_body(request)
        elif fields and not fields[_FIELDS_KEPT_BYTES:] and request.target[0] == "/":
            self._last_fields = fields
            self._last_request = request
        return request

    def receive(self, data: bytes) -> None:
        """Take what came from the peer; `b""` is its end of file. Raises nothing.

        After an end of file or an error it is ignored.
        """
        if self._is_over:
            return
        if not data:
            self._eof = self._is_over = True
        elif self.buffered:
            self._append(data)
        else:
            self._buffer = data
            self.buffered = True

    def _append(self, data: bytes) -> None:
        """Put `data` behind what is left over, at an amortised cost of its own length."""
        buffer = self._buffer
        used = self._position
        if isinstance(buffer, bytes):
            buffer = self._buffer = bytearray(memoryview(buffer)[used:])
        elif used:
            del buffer[:used]
        buffer += data
        self._searched = max(self._searched - used, 0)
        self._line_start = max(self._line_start - used, 0)
        self._position = 0

    def next_event(self) -> RequestHead | bytes | EndOfBody | None:
        """Return what the bytes received so far amount to.

        Returns:
            `RequestHead`; then, only when it has a body, non-empty `bytes` as they come
            and `END`. `None`: more bytes are needed, or the peer is done between requests.

        Raises:
            ProtocolError: The peer broke HTTP or left in the middle of a request. The
                same error is raised by every further call.
        """
        if self._error is not None:
            raise self._error.with_traceback(None)
        try:
            if self._state is _HEAD:
                buffer = self._buffer
                end = buffer.find(b"\r\n\r\n", self._searched)
                if end < 0 or buffer[self._position] < 0x20:  # see `take`
                    return self._next_slow_head()
                return self._take_head(end)
            if self._state is _State.FIXED:
                return self._next_fixed()
            return self._next_chunked()
        except ProtocolError as error:
            self._fail(error)
            raise

    def _fail(self, error: ProtocolError) -> None:
        """Raise `error`, and nothing else, from now on."""
        self._error = error
        self._is_over = True

    @property
    def started(self) -> bool:
        """Whether a byte of the next request has come, not counting empty lines before it."""
        if self._state is not _HEAD or not self.buffered:
            return False
        position = self._position
        return bool(self._buffer[position : position + 2 * EMPTY_LINES_MAX + 2].strip(b"\r\n"))

    @property
    def request_line(self) -> str:
        """The line of the request that `next_event` last worked on, for the log.

        Latin-1, at most `Limits.request_line` long; as much as came of one that is not
        whole or is refused; empty before the first byte.
        """
        line = self._known_head
        if line is None:
            stop = self._position + self._limits.request_line + 1
            line = bytes(self._buffer[self._position : stop])
        return line.partition(b"\r\n")[0][: self._limits.request_line].decode("latin-1")

    def _take_head(self, end: int) -> RequestHead:
        """Return the request whose head ends at `end`, and expect what follows it."""
        self._known_head = head = bytes(self._buffer[self._position : end])
        request = parse_head(head, self._limits)
        self._lines = self._empty_lines = 0
        self._release(end + 4)
        if request.chunked or request.content_length:
            self._expect_body(request)
        return request

    def _expect_body(self, request: RequestHead) -> None:
        """Go on with the body that `request` announces."""
        if request.chunked:
            self._state = _State.CHUNKED
            self._decoder = ChunkedDecoder(self._limits)
        else:
            self._state = _State.FIXED
            self._left = request.content_length

    def _release(self, position: int) -> None:
        """Go on at `position`: what lies before it has been given out."""
        if self._buffer[position : position + 1]:
            self._position = self._searched = self._line_start = position
        else:
            self._buffer = b""
            self._position = self._searched = self._line_start = 0
            self.buffered = False

    def _next_slow_head(self) -> RequestHead | None:
        """Return a head that did not come whole or after empty lines, once it is complete."""
        self._known_head = None
        if not self._skip_empty_lines():
            if self._eof and self.buffered:
                raise ProtocolError("the peer left in the middle of an empty line")
            return None
        end = self._buffer.find(b"\r\n\r\n", self._searched)
        if end >= 0:
            return self._take_head(end)
        self._check_partial_head()
        if self._eof:
            raise ProtocolError("the peer left in the middle of a request head")
        return None

    def _skip_empty_lines(self) -> bool:
        """Skip empty lines before a request line. Return whether a head has begun."""
        if self._lines:
            return True
        position = self._position
        while self._buffer[position : position + 2] == b"\r\n":
            position += 2
            self._empty_lines += 1
            if self._empty_lines > EMPTY_LINES_MAX:
                raise ProtocolError("too many empty lines before a request")
        if position != self._position:
            self._release(position)
        return self.buffered and self._buffer[self._position :] != b"\r"

    def _check_partial_head(self) -> None:
        """Raise for what is already wrong with a head whose end has not come.

        Each line is judged once, when it is complete; the last one for its length and for
        control bytes. So neither an endless head nor `GET /` without a version (HTTP/0.9)
        nor a TLS handshake has to wait for a timeout.
        """
        limits = self._limits
        buffer = self._buffer
        while True:
            limit = limits.field_size if self._lines else limits.request_line
            too_long = HeadTooLarge if self._lines else RequestLineTooLong
            end = find_line_end(buffer, self._line_start, self._searched, limit, too_long)
            if end < 0:
                break
            line = bytes(buffer[self._line_start : end])
            if self._lines:
                check_field(line, self._lines, limits.fields)
            else:
                check_request_line(line)
            self._lines += 1
            self._line_start = end + 2
        # The end of the head may begin with the last three bytes, not before.
        self._searched = max(self._position, len(buffer) - 3)

    @property
    def body_left(self) -> int:
        """Bytes of a body of known length that are still to come, when none is held here.

        Whoever receives bytes may then take so many for themselves and say `passed`. 0: all
        bytes are for `receive`.
        """
        return 0 if self.buffered or self._state is not _State.FIXED else self._left

    def passed(self, count: int) -> None:
        """Note that `count` bytes came, of `body_left`, which this has not seen."""
        self._left -= count

    def _next_fixed(self) -> bytes | EndOfBody | None:
        """Return what has come of a body of known length."""
        left = self._left
        if not left:
            self._state = _HEAD
            return END
        if not self.buffered:
            self._check_present()
            return None
        start = self._position
        data = bytes(self._buffer[start : start + left])
        self._left = left - len(data)
        self._release(start + left)
        return data

    def _next_chunked(self) -> bytes | EndOfBody | None:
        """Return what has come of a chunked body."""
        if self._decoder.done:
            self._state = _HEAD
            return END
        data, position = self._decoder.decode(self._buffer, self._position)
        if position != self._position:
            self._release(position)
        if data:
            return data
        if self._decoder.done:
            return self._next_chunked()
        self._check_present()
        return None

    def _check_present(self) -> None:
        """Raise when the peer has left: a body that is cut off never ends with END."""
        if self._eof:
            raise ProtocolError("the peer left in the middle of a request body")
