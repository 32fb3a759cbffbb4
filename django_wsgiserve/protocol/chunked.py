"""The chunked transfer coding, read strictly (RFC 9112 section 7.1).

Data is given out as it comes. Extensions are checked and dropped, trailers too: a
trailer field never becomes a header.
"""

from __future__ import annotations

import re
import sys
from enum import Enum

from django_wsgiserve.errors import BodyTooLarge, HeadTooLarge, ProtocolError
from django_wsgiserve.protocol.grammar import check_field, find_line_end
from django_wsgiserve.protocol.messages import Limits

# RFC 9112 section 7.1: chunk-size = 1*HEXDIG. We stop at 16 digits (64 bits): int() would
# accept more, and also "0x1f", "1_0" and " 1f", which a proxy in front of us may read as
# another number. That difference is request smuggling.
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")

_match_plain_size_line = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n").match

# Section 7.1.1. The white space (BWS) must be accepted by a recipient, in an extension
# only: "5 " alone is not in the grammar. It is written after what it may follow, to be in
# one place, and refused at the end; a quoted value ends with its quote.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_EXTENSIONS = re.compile(
    rb"[\t ]*(?:;[\t ]*" + _TOKEN + rb"[\t ]*(?:=[\t ]*(?:" + _TOKEN +
    rb'|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*")[\t ]*)?)*(?<![\t ])'
)  # fmt: skip

CHUNK_LINE_BYTES_MAX = 256
# A one-byte chunk may carry a line of extensions: together they may not outweigh the data,
# or a body would cost a multiple of what its limit says.
EXTENSION_BYTES_FREE = 16 * 1024


class _State(Enum):
    """What the next byte belongs to."""

    SIZE = "a chunk's size line"
    DATA = "a chunk's data"
    DATA_END = "the CRLF after a chunk's data"
    TRAILERS = "a trailer field or the final empty line"
    DONE = "nothing of this body"


def parse_chunk_size(line: bytes) -> int:
    """Return the size of the next chunk.

    Args:
        line: The chunk header without its CRLF and its extensions.

    Returns:
        Bytes of data that follow; 0 marks the last chunk.

    Raises:
        ProtocolError: `line` is not 1 to 16 hexadecimal digits.

    Source: RFC 9112 section 7.1.
    """
    if _CHUNK_SIZE.fullmatch(line) is None:
        raise ProtocolError(f"chunk size {line[:80]!r} is not hexadecimal")
    return int(line, 16)


class ChunkedDecoder:
    """Reads one chunked body. After a `ProtocolError` it must not be used again."""

    __slots__ = (
        "_body_bytes",
        "_chunk_left",
        "_error",
        "_extension_bytes",
        "_limits",
        "_searched",
        "_state",
        "_trailers",
        "done",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._state = _State.SIZE
        self._chunk_left = 0
        self._body_bytes = 0
        self._extension_bytes = 0
        self._trailers = 0
        self._searched = 0
        self._error: ProtocolError | None = None
        self.done = False

    def decode(self, data: bytes | bytearray, position: int) -> tuple[bytes, int]:
        """Return all body bytes that are in `data` from `position`, and where it stopped.

        The chunks of one call come as one bytes object, so that a million chunks of one
        byte do not cost a million events. `done` is set once the body is complete.

        Args:
            data: What has come; what lies before the returned position is not needed
                again, the rest must be there, first, in the next call's `data`.
            position: Where to go on.

        Raises:
            ProtocolError: The coding is broken. Bytes that came before the break are
                returned first; then the next call raises.
            BodyTooLarge: The sizes announced so far exceed `Limits.body`.
            HeadTooLarge: The trailers exceed the limits for fields.
        """
        if self._error is not None:
            raise self._error
        pieces: list[bytes | bytearray] = []
        size = len(data)
        self._searched += position
        try:
            while position < size and self._state is not _State.DONE:
                if self._state is _State.DATA:
                    position = self._take_data(data, position, pieces)
                    continue
                if self._state is _State.SIZE:
                    position = self._take_whole_chunks(data, position, pieces)
                end = self._read_delimiter(data, position)
                if end < 0:
                    break
                position = self._searched = end
        except ProtocolError as error:
            if not pieces:
                raise
            self._error = error
        self.done = self._state is _State.DONE
        self._searched = max(self._searched - position, 0)
        return b"".join(pieces), position

    def _take_whole_chunks(
        self, data: bytes | bytearray, position: int, pieces: list[bytes | bytearray]
    ) -> int:
        """Put the data of the chunks that are whole and plain into `pieces`; return their end.

        What is in any way special is left to the slow way: a chunk of one byte costs 0.5 µs
        here and 4 there, and a hostile client may send millions.
        """
        limit = self._limits.body or sys.maxsize
        body_bytes = self._body_bytes
        while match := _match_plain_size_line(data, position):
            size = int(match[1], 16)
            body_bytes += size
            start = match.end()
            stop = start + size
            if not size or body_bytes > limit or data[stop : stop + 2] != b"\r\n":
                break
            pieces.append(data[start:stop])
            self._body_bytes = body_bytes
            position = stop + 2
        return position

    def _take_data(
        self, data: bytes | bytearray, position: int, pieces: list[bytes | bytearray]
    ) -> int:
        """Put what has come of the current chunk's data into `pieces`; return where it ends."""
        piece = data[position : position + self._chunk_left]
        pieces.append(piece)
        self._chunk_left -= len(piece)
        if not self._chunk_left:
            self._state = _State.DATA_END
        return position + len(piece)

    def _read_delimiter(self, data: bytes | bytearray, start: int) -> int:
        """Read what stands between data. Return where it ends, -1 when it is incomplete."""
        if self._state is _State.DATA_END:
            # h11 skipped these two bytes unseen until 0.16: data longer than its chunk says
            # then reads as another chunk elsewhere.
            if data[start] != 0x0D or (len(data) > start + 1 and data[start + 1] != 0x0A):
                raise ProtocolError("chunk data is not followed by CRLF")
            if len(data) == start + 1:
                return -1
            self._state = _State.SIZE
            return start + 2
        in_trailers = self._state is _State.TRAILERS
        limit = self._limits.field_size if in_trailers else CHUNK_LINE_BYTES_MAX
        too_long = HeadTooLarge if in_trailers else ProtocolError
        end = find_line_end(data, start, self._searched, limit, too_long)
        if end < 0:
            self._searched = len(data)
            return -1
        line = bytes(data[start:end])
        if in_trailers:
            self._read_trailer(line)
        else:
            self._read_size(line)
        return end + 2

    def _read_size(self, line: bytes) -> None:
        """Take the size out of a chunk's first line."""
        match = _CHUNK_SIZE.match(line)
        digits = match.end() if match else len(line)
        size = parse_chunk_size(line[:digits])
        if digits != len(line):
            self._check_extensions(line, digits)
        self._body_bytes += size
        limit = self._limits.body
        if limit and self._body_bytes > limit:
            raise BodyTooLarge(f"a chunked body of more than {limit} bytes")
        self._chunk_left = size
        self._state = _State.DATA if size else _State.TRAILERS

    def _check_extensions(self, line: bytes, start: int) -> None:
        """Raise unless what follows the size is a list of extensions, and not too much of it."""
        if _EXTENSIONS.fullmatch(line, start) is None:
            raise ProtocolError(f"chunk header {line[:80]!r} is not a size and extensions")
        self._extension_bytes += len(line) - start
        if self._extension_bytes > EXTENSION_BYTES_FREE + self._body_bytes:
            raise ProtocolError("the chunk extensions outweigh the data")

    def _read_trailer(self, line: bytes) -> None:
        """Check one trailer field; the empty line ends the body."""
        if not line:
            self._state = _State.DONE
            return
        self._trailers += 1
        check_field(line, self._trailers, self._limits.fields)
