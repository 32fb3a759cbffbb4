"""One response on its way from the application to the client.

What PEP 3333 lets an application do with it is here: `start_response`, `write`, and
the four forms of a result. Who is told when it goes wrong is the gateway's concern.
"""

from __future__ import annotations

import contextlib
import reprlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from django_wsgiserve.errors import ResponseError
from django_wsgiserve.protocol.response import ResponseEncoder, error_response, whole_head
from django_wsgiserve.wsgi.file_wrapper import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed import OptExcInfo

    from django_wsgiserve.protocol.messages import RequestHead

# Above this, copying the body behind the head costs more than the system call it saves.
_JOIN_LIMIT_BYTES = 262_144


class ClientGone(ConnectionAbortedError):
    """Raised in the application by `write()`: nobody reads any more, stop producing.

    An `OSError`, because that is what applications meet on other servers, and there is no
    other way to stop a loop around `write()`.
    """


class Sink(Protocol):
    """Takes a response's bytes towards the client. Raises nothing a client can cause."""

    def send(self, data: bytes) -> bool:
        """Send, or keep until it can be sent. False: the client is gone."""

    def send_file(self, fd: int, offset: int, count: int) -> bool:
        """Send `count` bytes of a regular file; `fd` may be closed when this returns."""


class Outcome:
    """How a request ended, for the connection and for the access log.

    Attributes:
        status: The code sent, or that would have been, had the client not left.
        headers: The application's headers, or those of the 500 page.
        body_bytes: Bytes of body handed to the sink, without framing.
        keep_alive: Whether the connection may carry another request.
        aborted: The response is not whole: the client left, or the application broke off.
        head: As handed to the sink: what to take off the bytes sent, where only their
            number tells how much of the body that was. Empty when there was none.
    """

    __slots__ = ("aborted", "body_bytes", "head", "headers", "keep_alive", "status")

    def __init__(  # noqa: PLR0913 - this is the value type that would group them
        self,
        status: int,
        headers: list[tuple[str, str]],
        body_bytes: int,
        keep_alive: bool,
        aborted: bool,
        head: bytes,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body_bytes = body_bytes
        self.keep_alive = keep_alive
        self.aborted = aborted
        self.head = head


class Reply(Outcome):
    """The response to one request: what becomes its `Outcome`, as the gateway lets it go.

    Attributes:
        request: What is answered.
        close_wanted: Set by any thread: a head that is made later announces the close.
        status_line: As given by the application, `200 OK`; empty until it was.
        head_sent: The head was handed to the sink; too late for a 500.
        replaced: The 500 page was sent in the application's place.
        client_gone: The sink said so; it is not called again.
        ended: Set by the gateway: what is written from now on would reach the next response.
    """

    __slots__ = (
        "_date",
        "_encoder",
        "_sink",
        "client_gone",
        "close_wanted",
        "ended",
        "head_sent",
        "replaced",
        "request",
        "status_line",
    )

    _encoder: ResponseEncoder
    """Made with the head, where `whole_head` does not make that."""

    def __init__(self, request: RequestHead, sink: Sink, *, keep_alive: bool, date: bytes) -> None:
        """Begin.

        Args:
            request: What is answered.
            sink: Where the bytes go.
            keep_alive: Whether the server is willing to keep the connection.
            date: As for `ResponseEncoder`.
        """
        self.request = request
        self._sink = sink
        self._date = date
        self.keep_alive = keep_alive and request.keep_alive
        self.close_wanted = self.aborted = False
        self.status = self.body_bytes = 0
        self.status_line = ""
        self.headers = []
        self.head = b""
        self.head_sent = self.replaced = self.ended = self.client_gone = False

    def start_response(
        self,
        status: str,
        response_headers: list[tuple[str, str]],
        exc_info: OptExcInfo | None = None,
    ) -> Callable[[bytes], object]:
        """Take the head, which waits for the first byte of body. Returns `write`.

        Raises:
            ResponseError: A second head without `exc_info`, or arguments of wrong types.
            BaseException: The one of `exc_info`, when the head was sent already.

        Source: PEP 3333, "The start_response() Callable".
        """
        if exc_info:
            try:
                if self.head_sent and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it holds this frame, and this frame it
        elif self.status_line:
            raise ResponseError("start_response() was called again without exc_info")
        if type(status) is not str or not status:
            raise ResponseError(f"the status is {_shown(status)}, not a str like '200 OK'")
        if type(response_headers) is not list:
            raise ResponseError(f"the headers are {_shown(response_headers)}, not a list")
        self.status_line = status
        self.headers = response_headers
        return self.write

    def write(self, data: bytes, /) -> None:
        """Send a part of the body at once: the callable that `start_response` returns.

        Raises:
            ClientGone: The client does not read any more.
            ResponseError: Not bytes, an illegal head, more than Content-Length, or too late.
        """
        if self.ended:
            raise ResponseError("write() was called after the end of the response")
        if not self.client_gone:
            self._send_block(data)
        if self.client_gone:
            raise ClientGone("the client has closed the connection")

    def send_whole(self, body: bytes) -> None:
        """Send head and body together: the common case, and one system call.

        Raises:
            ResponseError: As `send_blocks`; nothing was sent then.
        """
        if type(body) is not bytes or self.head_sent or not self.status_line:
            self.send_blocks((body,), only_block=True)
            return
        body_bytes = len(body)
        head, data, has_body = None, body, True
        request = self.request
        keep_alive = self.keep_alive = self.keep_alive and not self.close_wanted
        if request.method != "HEAD" and (request.version == "HTTP/1.1" or not keep_alive):
            head = whole_head(
                self.status_line, self.headers, body_bytes, self._date, keep_alive=keep_alive
            )
        if head is None:
            head, data, has_body = self._encode_whole(body, body_bytes)
        self.head = head
        self.head_sent = True
        sink = self._sink
        if body_bytes > _JOIN_LIMIT_BYTES:
            sent = sink.send(head) and (not data or sink.send(data))
        else:
            sent = sink.send(head + data)
        if not sent:
            self.client_gone = True
        elif has_body:
            self.body_bytes = body_bytes

    def _encode_whole(self, body: bytes, body_bytes: int) -> tuple[bytes, bytes, bool]:
        """Return head and body as they are sent, and whether the body is."""
        encoder = self._begin()
        head, data = encoder.whole(self.status_line, self.headers, body, body_bytes)
        self.keep_alive = encoder.keep_alive
        return head, data, encoder.has_body

    def _begin(self) -> ResponseEncoder:
        """Return the encoder, made now: what is to be said of the connection is decided."""
        self._encoder = ResponseEncoder(
            self.request, keep_alive=self.keep_alive and not self.close_wanted, date=self._date
        )
        return self._encoder

    def send_result(self, result: Any) -> None:
        """Send whatever an application may return, by the form it has.

        Raises:
            BaseException: What the application raises while it is iterated.
            ResponseError: As `send_blocks`.
        """
        if type(result) is FileWrapper:
            self._send_file(result)
        elif type(result) is list or type(result) is tuple:
            # The application has produced it all, so putting it together delays nothing.
            for block in result:
                _check_block(block)
            self.send_whole(b"".join(result))
        elif hasattr(result, "__iter__") or hasattr(result, "__getitem__"):
            self.send_blocks(result, only_block=hasattr(result, "__len__") and len(result) == 1)
        else:
            raise ResponseError(f"the application returned {_shown(result)}, not an iterable")

    def send_blocks(self, blocks: Iterable[bytes], *, only_block: bool = False) -> None:
        """Send each block as it comes, until the client leaves or needs no more.

        Args:
            blocks: What the application returned. Not iterated when the response has no
                body (HEAD, 204, 304), unless the head is only known by doing so.
            only_block: The first block is the whole body, so its length is the body's.

        Raises:
            BaseException: What the application raises while it is iterated.
            ResponseError: No head, an illegal one, blocks that are not bytes, or a body
                that is not as long as its Content-Length.
        """
        if not self.client_gone and not self._bodiless():
            for block in blocks:
                if not self._send_block(block, is_whole=only_block):
                    break
        if not self.client_gone:
            self._finish()

    def send_error_page(self) -> None:
        """Send a 500 that says nothing of the reason; only while `head_sent` is false."""
        body_wanted = self.request.method != "HEAD"
        page = error_response(HTTPStatus.INTERNAL_SERVER_ERROR, self._date, body=body_wanted)
        head, _, body = page.partition(b"\r\n\r\n")
        self.head = page[: len(page) - len(body)]
        status_line, *fields = head.decode("latin-1").split("\r\n")
        self.status_line = status_line.partition(" ")[2]
        self.headers = [(name, value) for name, _, value in (f.partition(": ") for f in fields)]
        self.head_sent = True
        if self._sink.send(page):
            self.replaced = True
            self.body_bytes = len(body)
        else:
            self.client_gone = True

    def _bodiless(self) -> bool:
        """Return whether it is known that the response has no body, whatever is produced."""
        if self.head_sent:
            return not self._encoder.has_body
        status = self.status_line
        return bool(status) and (self.request.method == "HEAD" or status[:3] in ("204", "304"))

    def _send_block(self, block: bytes, *, is_whole: bool = False) -> bool:
        """Send one block, after the head if that is still here. False: no more is needed."""
        _check_block(block)
        if not block:
            if not self.status_line:
                raise ResponseError(_NOT_STARTED)
            return not self._bodiless()
        if self.head_sent:
            data = self._encoder.data(block)
        else:
            data = self._head(len(block) if is_whole else None) + self._encoder.data(block)
            self.head_sent = True
        if data and not self._sink.send(data):
            self.client_gone = True
            return False
        if not self._encoder.has_body:
            return False
        self.body_bytes += len(block)
        return True

    def _send_file(self, wrapper: FileWrapper) -> None:
        """Let the kernel send a plain file; send it block by block where that cannot be.

        A Content-Length smaller than the file is a range of it, so no more is sent; one
        that is larger is found out at the end, as for every other response.
        """
        declared_bytes = self._declared_bytes()
        span = wrapper.span()
        if (
            span is None
            or self.head_sent
            or (declared_bytes is not None and declared_bytes > span.count_bytes)
        ):
            self.send_blocks(wrapper.blocks(declared_bytes))
            return
        count_bytes = span.count_bytes if declared_bytes is None else declared_bytes
        self._send_head(self._head(count_bytes))
        if self.client_gone:
            return
        if not self._encoder.raw or not count_bytes:
            self.send_blocks(wrapper.blocks(count_bytes))
        elif self._sink.send_file(span.fd, span.offset_bytes, count_bytes):
            self.body_bytes = count_bytes
        else:
            self.client_gone = True

    def _finish(self) -> None:
        """Send what ends the body, and the head if no byte of body has come."""
        if self.head_sent:
            data = self._encoder.end()
        else:
            data = self._head(0) + self._encoder.end()
            self.head_sent = True
        if data and not self._sink.send(data):
            self.client_gone = True

    def _head(self, body_bytes: int | None) -> bytes:
        """Return the head, encoded, and keep it."""
        if not self.status_line:
            raise ResponseError(_NOT_STARTED)
        encoder = self._begin()
        self.head = encoder.head(self.status_line, self.headers, body_bytes)
        self.keep_alive = encoder.keep_alive
        return self.head

    def _send_head(self, head: bytes) -> None:
        """Send the head alone: what follows it comes from elsewhere."""
        self.head_sent = True
        self.client_gone = not self._sink.send(head)

    def _declared_bytes(self) -> int | None:
        """Return the application's Content-Length; `None` when there is no valid one.

        What is wrong with the headers, if anything is, the encoder says better.
        """
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            for name, value in self.headers:
                if name.lower() == "content-length":
                    return max(int(value), 0)
        return None


_NOT_STARTED = "the application did not call start_response() before its body began or ended"


def _check_block(block: object) -> None:
    """Raise `ResponseError` when a part of the body is not bytes."""
    if not isinstance(block, bytes):
        raise ResponseError(f"the body has a part that is {_shown(block)}, not bytes")


def _shown(value: object) -> str:
    """Return the type of `value` and the beginning of it: `str 'Hello'`."""
    return f"{type(value).__name__} {reprlib.repr(value)}"
