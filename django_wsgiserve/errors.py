"""Every error of the server, in one tree, by whose fault it is.

`ConfigError` is the operator's, `ProtocolError` the peer's, `ResponseError` the
application's. What is in none of these families is a bug of ours.
"""

from __future__ import annotations

from enum import IntEnum
from http import HTTPStatus


class ExitCode(IntEnum):
    """What the exit code of `manage.py runprod` says."""

    STOPPED = 0
    """Asked to stop, and stopped."""

    CRASHED = 1
    """A bug of the server, or workers that died faster than they could be replaced."""

    USAGE = 2
    """The configuration or the command line is wrong; nothing was started."""

    REFUSED = 3
    """A check refused to serve this project as it is."""

    APP_FAILED = 4
    """The project could not be loaded, or its first worker never answered."""

    CANNOT_BIND = 5
    """An address could not be listened on."""


class WsgiServeError(Exception):
    """The root of the tree. Never raised itself."""


class OperatorError(WsgiServeError):
    """Something only the operator can cure. One message, no traceback.

    The message says what happened and why; `hint` says what to do, ready to paste.
    """

    exit_code = ExitCode.CRASHED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n  {self.hint}" if self.hint else message


class ConfigError(OperatorError):
    """A setting, flag or variable is wrong."""

    exit_code = ExitCode.USAGE


class CheckRefused(OperatorError):
    """A check found that serving this project as it is would do harm."""

    exit_code = ExitCode.REFUSED


class AppLoadError(OperatorError):
    """The project's WSGI application could not be loaded or does not answer."""

    exit_code = ExitCode.APP_FAILED


class BindError(OperatorError):
    """An address cannot be listened on."""

    exit_code = ExitCode.CANNOT_BIND


class ProtocolError(WsgiServeError):
    """The peer broke HTTP. Answered with `status`, then the connection closes.

    Never a subclass of OSError: a bad chunk must not look like a broken socket.
    """

    status = HTTPStatus.BAD_REQUEST


class RequestLineTooLong(ProtocolError):
    """The request line exceeds LIMIT_REQUEST_LINE (RFC 9110 section 15.5.15)."""

    status = HTTPStatus.REQUEST_URI_TOO_LONG


class HeadTooLarge(ProtocolError):
    """A field, their number or their sum exceeds its limit (RFC 6585 section 5)."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class BodyTooLarge(ProtocolError):
    """The body exceeds LIMIT_REQUEST_BODY (RFC 9110 section 15.5.14)."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class UnsupportedMethod(ProtocolError):
    """A method that no resource here has: CONNECT, or an absurdly long one.

    501 and not 405 for CONNECT: RFC 9110 section 15.6.2 means the former for a method
    that is supported for no resource at all; the latter needs a target resource and a
    list of what that allows, and CONNECT names another host.
    """

    status = HTTPStatus.NOT_IMPLEMENTED


class UnsupportedVersion(ProtocolError):
    """The major version is not 1 (RFC 9110 section 15.6.6)."""

    status = HTTPStatus.HTTP_VERSION_NOT_SUPPORTED


class UnsupportedCoding(ProtocolError):
    """A transfer coding that is not understood (RFC 9112 section 6.1)."""

    status = HTTPStatus.NOT_IMPLEMENTED


class ExpectationFailed(ProtocolError):
    """An `Expect` other than 100-continue (RFC 9110 section 10.1.1)."""

    status = HTTPStatus.EXPECTATION_FAILED


class RequestTimeout(ProtocolError):
    """The peer took too long to send its request (RFC 9110 section 15.5.9)."""

    status = HTTPStatus.REQUEST_TIMEOUT


class BodyNotStored(ProtocolError):
    """The body is too large for memory and no temporary file takes it.

    Not the peer's fault, but answered and ended like the errors that are: with 507 when
    there is no room (RFC 4918 section 11.5), with 503 when no file can be had.
    """

    def __init__(self, message: str, status: HTTPStatus) -> None:
        super().__init__(message)
        self.status = status


class RequestTimedOut(BaseException):
    """Raised in a view that waits when its request runs longer than TIMEOUT, under gevent.

    The client has its answer by then; what is still to be done is to tidy up. Not an
    `Exception`: a view that tries again after any of those would never end.
    """


class ResponseError(WsgiServeError):
    """The application broke PEP 3333 or HTTP: an illegal header, status or length.

    Answered with 500 while the head is unsent; afterwards the connection closes, so
    that the client sees the response is not whole.
    """


class FileFailed(WsgiServeError):
    """A file cannot be read as far as a response has promised, after its head was sent.

    Never a subclass of OSError: a file that shrinks must not look like a client that left.
    """
