"""Whether the project wants the server's records in its own LOGGING."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings

from django_wsgiserve.logs import ACCESS_LOGGER_NAME, SERVER_LOGGER_NAME


@dataclass(frozen=True, slots=True)
class ProjectLoggers:
    """The loggers that the project configured; `None` where it leaves the log to the server."""

    access: logging.Logger | None
    server: logging.Logger | None


def project_loggers() -> ProjectLoggers:
    """Return which of the server's two loggers the project names.

    A name in `LOGGING["loggers"]` counts, of the logger itself or of `django_wsgiserve` above
    it, also without handlers: `{"propagate": False}` is how a log is turned off. So
    do handlers that code has added, which is how a project with `LOGGING_CONFIG = None`
    does it. A root logger does not count: everybody has one.
    """
    return ProjectLoggers(
        access=_project_logger(ACCESS_LOGGER_NAME), server=_project_logger(SERVER_LOGGER_NAME)
    )


def _project_logger(name: str) -> logging.Logger | None:
    names = (name, name.rpartition(".")[0])
    if any(_is_named(candidate) or _has_handlers(candidate) for candidate in names):
        return logging.getLogger(name)
    return None


def _is_named(name: str) -> bool:
    if settings.LOGGING_CONFIG is None or not isinstance(settings.LOGGING, Mapping):
        return False
    loggers = settings.LOGGING.get("loggers")
    return isinstance(loggers, Mapping) and name in loggers


def _has_handlers(name: str) -> bool:
    # Looked up, not asked for: getLogger would make it.
    logger = logging.root.manager.loggerDict.get(name)
    return isinstance(logger, logging.Logger) and bool(logger.handlers)
