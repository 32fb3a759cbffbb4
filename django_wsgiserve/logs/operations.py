"""The operations log: what the server itself has to say, and who hears it.

Observes `Notice`, `AppFailed` and `RequestRejected`. Records are few, so each is written at
once, without waiting: what a process said before it was killed is in the log.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable

from django_wsgiserve.events import AppFailed, Notice, RequestRejected
from django_wsgiserve.logs import banner
from django_wsgiserve.logs.logger_route import LoggerRoute, ServerRoute
from django_wsgiserve.logs.records import (
    LOGGER_NAME,
    LogRecord,
    RateLimit,
    RenderRecord,
    json_text,
    printable,
)
from django_wsgiserve.logs.targets import LogTarget

REJECTIONS_LOGGED = 10
"""How many refused requests are named each `REJECTIONS_WINDOW_S`; the others are counted."""

REJECTIONS_WINDOW_S = 1.0
HANDLER_FAILURES_WINDOW_S = 60.0


class OperationsLog:
    """The operations log of one process."""

    def __init__(
        self,
        target: LogTarget,
        render: RenderRecord,
        *,
        role: str,
        minimum_level: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Store.

        Args:
            target: Where records go, unless `use_logger` says otherwise.
            render: Makes the bytes of a record.
            role: What this process is called in the log.
            minimum_level: Records below this `logging` level are not written.
            clock: Monotonic seconds, for the rate limits.
        """
        self.target = target
        self._render = render
        self._role = role
        self._minimum_level = minimum_level
        self._rejections = RateLimit(REJECTIONS_LOGGED, REJECTIONS_WINDOW_S, clock)
        self._handler_failures = RateLimit(1, HANDLER_FAILURES_WINDOW_S, clock)
        self._route: ServerRoute | None = None
        self._handler: logging.Handler | None = None

    def use_logger(self, logger: logging.Logger) -> None:
        """Send records through the project's logger from now on."""
        self._route = ServerRoute(self.route(logger), self._minimum_level)

    def route(self, logger: logging.Logger) -> LoggerRoute:
        """Return a way to a logger of the project whose failures are told here."""
        return LoggerRoute(logger, self._on_handler_failure)

    def adopt_server_logger(self) -> None:
        """Take what the server says through `logging`, if nobody else would.

        That is only what `EventBus` says of a failing observer. Nothing is changed when the
        logger or the root has handlers.
        """
        logger = logging.getLogger(LOGGER_NAME)
        if self._route is None and not logger.hasHandlers():
            self._handler = _RecordHandler(self)
            logger.addHandler(self._handler)

    def release_server_logger(self) -> None:
        """Undo `adopt_server_logger`."""
        if self._handler is not None:
            logging.getLogger(LOGGER_NAME).removeHandler(self._handler)
            self._handler = None

    def record(self, level: int, message: str, detail: str = "") -> LogRecord:
        """Return a record of this process."""
        return LogRecord(level=level, message=message, detail=detail, role=self._role)

    def write(self, record: LogRecord, exception: BaseException | None = None) -> None:
        """Write one record, to the project's logger where there is one."""
        if self._route is not None:
            self._route.write(record, exception)
        else:
            self.write_here(record)

    def write_here(self, record: LogRecord) -> None:
        """Write one record to our own target, also when the project has a logger."""
        if record.level >= self._minimum_level:
            self.target.write(self._render(record))
            self.target.flush()

    def warn_here(self, message: str) -> None:
        """Write a warning about the logs themselves to our own target."""
        self.write_here(self.record(logging.WARNING, message))

    def on_notice(self, event: Notice) -> None:
        """Write a notice."""
        self.write(
            LogRecord(
                level=event.level,
                message=event.message,
                detail=event.detail,
                role=self._role,
                fields=event.fields,
            )
        )

    def on_app_failed(self, event: AppFailed) -> None:
        """Write the application's traceback, under the request it was for."""
        request = event.request
        request_line = f"{request.method} {request.target} {request.version}"
        detail = ""
        if event.exception is not None:
            detail = "".join(traceback.format_exception(event.exception))
        record = LogRecord(
            level=logging.ERROR,
            message=f"{event.summary} ({request_line})",
            detail=detail,
            role=self._role,
            fields={"method": request.method, "target": request.target},
        )
        self.write(record, event.exception)

    def on_request_rejected(self, event: RequestRejected) -> None:
        """Name the refused request, or only count it when there are many."""
        self.tell_suppressed()
        if self._minimum_level <= logging.INFO and self._rejections.passes():
            self.write(
                LogRecord(
                    level=logging.INFO,
                    message=(
                        f"refused a request of {event.peer or 'a local client'}"
                        f" with {int(event.status)}: {event.reason}"
                    ),
                    role=self._role,
                    fields={
                        "peer": event.peer,
                        "status": int(event.status),
                        "reason": event.reason,
                    },
                )
            )

    @property
    def has_suppressed(self) -> bool:
        """Whether refused requests were counted that no line tells of yet."""
        return self._rejections.suppressed > 0

    def tell_suppressed(self, *, now: bool = False) -> None:
        """Write how many refused requests were not named, once their second is over or `now`."""
        suppressed = self._rejections.take_suppressed(now=now)
        if suppressed:
            self.write(
                LogRecord(
                    level=logging.INFO,
                    message=f"refused {suppressed} more requests that are not named here",
                    role=self._role,
                    fields={"suppressed": suppressed},
                )
            )

    def write_banner(self, values: banner.BannerValues) -> None:
        """Write the start-up banner: plain lines for people, one record where JSON is written."""
        if self._minimum_level > logging.INFO:
            return
        lines = banner.render(values)
        if self._render is json_text or self._route is not None:
            self.write(
                LogRecord(
                    level=logging.INFO,
                    message=f"{values.title}: {lines[-1].strip()}",
                    role=self._role,
                    fields=values.fields(),
                )
            )
            return
        text = "".join(f"{printable(line)}\n" for line in lines)
        self.target.write(text.encode("utf-8", "backslashreplace"))
        self.target.flush()

    def _on_handler_failure(self, logger_name: str, error: Exception) -> None:
        if self._handler_failures.passes():
            detail = "".join(traceback.format_exception(error))
            message = f"a handler of the logger {logger_name!r} raised {type(error).__name__}"
            self.write_here(self.record(logging.ERROR, message, detail))


class _RecordHandler(logging.Handler):
    """Turns a record of `logging` into one of ours."""

    def __init__(self, operations: OperationsLog) -> None:
        super().__init__()
        self._operations = operations

    def emit(self, record: logging.LogRecord) -> None:
        detail = ""
        if record.exc_info and record.exc_info[1] is not None:
            detail = "".join(traceback.format_exception(record.exc_info[1]))
        self._operations.write_here(
            self._operations.record(record.levelno, record.getMessage(), detail)
        )
