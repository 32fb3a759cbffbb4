"""The place where the server calls the application, and where its failures end.

Sends what the application answers, or a 500 in its place; always closes what it
returned; says what went wrong as an event. No socket is touched: see `Sink`.

Measured (CPython 3.11, `sys.setprofile`, C calls included; application and sink not
counted): 7 Python-visible calls for a list of one block, the head's included, 9 for a
Django response.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from django_wsgiserve.errors import RequestTimedOut, ResponseError
from django_wsgiserve.events import AppFailed
from django_wsgiserve.wsgi.reply import ClientGone, Reply

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed.wsgi import WSGIApplication

    from django_wsgiserve.events import EventBus
    from django_wsgiserve.protocol.messages import RequestHead

# What an exception says for itself, on one line; `reprlib` also survives a `__repr__`
# that raises.
_exception_repr = reprlib.Repr()
_exception_repr.maxother = 300


class Gateway:
    """Runs one WSGI application, for one request at a time or for many in many threads."""

    def __init__(self, application: WSGIApplication, events: EventBus) -> None:
        self._application = application
        self._events = events

    def run(
        self,
        environ: dict[str, Any],
        reply: Reply,
    ) -> None:
        """Call the application, send its response and close it.

        Args:
            environ: The application's from here on.
            reply: A new one; the request's `Outcome` afterwards. A failure of the
                application is emitted as `AppFailed`.

        Raises nothing: an application that calls `sys.exit()` gets a 500 as one that
        divides by zero does, since a worker that ends takes other requests with it.
        """
        result: Any = None
        intact = True
        try:
            result = self._application(environ, reply.start_response)
            if type(result) is list and result and not result[1:]:  # a slice is no call
                reply.send_whole(result[0])
            elif getattr(result, "streaming", None) is False:  # Django's HttpResponse
                reply.send_whole(result.content)
            else:
                reply.send_result(result)
        except BaseException as exception:  # not even SystemExit may end the worker
            intact = False
            self._answer_failure(exception, reply)
        reply.ended = True
        if type(result) is not list:
            self._close(result, reply.request)
        reply.status = int(reply.status_line[:3])  # it has been validated, or it is our 500
        if not intact or reply.client_gone:
            reply.keep_alive = False
            reply.aborted = not reply.replaced

    def _answer_failure(self, exception: BaseException, reply: Reply) -> None:
        """Send the 500 page if nothing was sent yet, and report what happened."""
        if reply.client_gone and isinstance(exception, ClientGone):
            return  # ours, from write(): the application did as it was told
        if not reply.head_sent:
            reply.send_error_page()
        if isinstance(exception, RequestTimedOut):
            return  # who raised it has told of it
        if reply.client_gone:
            consequence = "the client had already left"
        elif reply.replaced:
            consequence = "the client got a 500"
        else:
            consequence = "the response had begun, so the connection was closed"
        if isinstance(exception, ResponseError):
            what = f"the application's response is not valid: {exception}"
        else:
            what = f"the application raised {_exception_repr.repr(exception)}"
        self._report(f"{what}; {consequence}", exception, reply.request)

    def _close(self, result: Any, request: RequestHead) -> None:
        """Call the `close()` of what the application returned, if it has one.

        Source: PEP 3333, "Specification Details": on completion of every request, also
        of one that ended early.
        """
        try:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        except BaseException as exception:  # the response is out; nothing can be said of it
            shown = _exception_repr.repr(exception)
            self._report(f"close() of the response raised {shown}", exception, request)

    def _report(self, summary: str, exception: BaseException, request: RequestHead) -> None:
        """Emit `AppFailed` with a traceback that begins in the application."""
        traceback = exception.__traceback__
        while traceback is not None and _is_ours(traceback):
            traceback = traceback.tb_next
        if traceback is not None:
            exception = exception.with_traceback(traceback)
        elif isinstance(exception, ResponseError):
            # Found out after the application returned: only our own frames, and the
            # summary says all there is to know.
            self._events.emit(AppFailed(request=request, summary=summary, exception=None))
            return
        self._events.emit(AppFailed(request=request, summary=summary, exception=exception))


def _is_ours(traceback: TracebackType) -> bool:
    """Return whether a frame is one of the server's."""
    name = traceback.tb_frame.f_globals.get("__name__")
    return isinstance(name, str) and name.startswith("django_wsgiserve.")
