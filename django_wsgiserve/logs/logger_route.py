"""Sending records through the project's own loggers, where its LOGGING names them.

The handlers behind a logger are the project's: they may wait, and they may raise. The
first is its choice; the second is caught here and reported, and the request goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from django_wsgiserve.config.access_format import COMBINED
from django_wsgiserve.events import RequestFinished
from django_wsgiserve.logs.access_json import access_fields
from django_wsgiserve.logs.access_line import AtomsFactory, LineFunction, compile_format
from django_wsgiserve.logs.records import LogRecord


class LoggerRoute:
    """Hands records to one logger and survives its handlers."""

    def __init__(
        self, logger: logging.Logger, on_failure: Callable[[str, Exception], None]
    ) -> None:
        """Store.

        Args:
            logger: The project's.
            on_failure: Called with the logger's name when a handler or filter raised.
        """
        self.logger = logger
        self._on_failure = on_failure

    def level(self) -> int:
        """Return the level set at the logger or above it; NOTSET when only the root has one.

        The root's default of WARNING would silence an access log that was asked for
        by name; a level set anywhere below the root is meant.
        """
        logger: logging.Logger | None = self.logger
        while logger is not None and logger is not logging.root:
            if logger.level:
                return logger.level
            logger = logger.parent
        return logging.NOTSET

    def takes(self, level: int) -> bool:
        """Return whether a record of `level` would go anywhere."""
        return level >= self.level() and self.logger.manager.disable < level

    def send(self, record: logging.LogRecord) -> None:
        """Hand over the record. Raises nothing that a handler or filter raised."""
        try:
            self.logger.handle(record)
        except Exception as error:  # the project's code; it must not stop serving
            self._on_failure(self.logger.name, error)


class AccessRoute:
    """Writes the access log through a logger: the line is the message, the fields are attributes.

    `record.args` is a mapping of Gunicorn's identifiers, which formatters made for it read.
    """

    def __init__(self, route: LoggerRoute, access_log_format: str) -> None:
        """Compile the format; "auto" is combined here, as the project formats for itself.

        Raises:
            ConfigError: The format has mistakes.
        """
        self._route = route
        self._json_line: LineFunction | None = None
        self._format = access_log_format
        if access_log_format == "json":
            self._json_line = compile_format("json")
        if access_log_format in ("auto", "combined", "json"):
            self._format = COMBINED
        compile_format(self._format)
        self._atoms = AtomsFactory(self._format)

    def observe(self, event: RequestFinished) -> None:
        """Send one record for the event."""
        if not self._route.takes(logging.INFO):
            return
        message = self._format
        if self._json_line is not None:
            message = self._json_line(event).rstrip("\n").replace("%", "%%")
        logger = self._route.logger
        record = logger.makeRecord(
            logger.name,
            logging.INFO,
            "",
            0,
            message,
            (self._atoms.atoms(event),),
            None,
            extra=access_fields(event),
        )
        self._route.send(record)


class ServerRoute:
    """Writes the operations log through a logger."""

    def __init__(self, route: LoggerRoute, minimum_level: int) -> None:
        """Store; `minimum_level` counts where the project set no level."""
        self._route = route
        self._minimum_level = minimum_level

    def write(self, record: LogRecord, exception: BaseException | None = None) -> None:
        """Send the record: `role`, `detail` and `fields` are attributes of it.

        A detail is part of the message too, unless it is the traceback of `exception`,
        which formatters print themselves.
        """
        level = record.level
        if not self._route.takes(level):
            return
        if not self._route.level() and level < self._minimum_level:
            return
        message = record.message
        exc_info = None
        if exception is not None:
            exc_info = (type(exception), exception, exception.__traceback__)
        elif record.detail:
            message = f"{message}\n{record.detail}"
        extra: Mapping[str, Any] = {
            "role": record.role,
            "detail": record.detail,
            "fields": dict(record.fields),
        }
        logger = self._route.logger
        self._route.send(
            logger.makeRecord(logger.name, level, "", 0, message, (), exc_info, extra=extra)
        )
