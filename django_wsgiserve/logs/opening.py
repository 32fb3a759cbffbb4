"""The logs of one process: the access log and the operations log, as observers of the events.

Each process opens its own (the supervisor, and every worker after its fork), so no
state, no descriptor and no lock is shared. Neither log ever stops or slows serving: lines
are held in memory and written when the worker is about to wait (`flush`), see
`targets.py`. The root logger of `logging` is never touched.

Where the project's LOGGING names `django_wsgiserve.access` or `django_wsgiserve.server`,
records go to those loggers instead; `integration/logging.py` finds that out.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

from django_wsgiserve.errors import ConfigError
from django_wsgiserve.events import AppFailed, EventBus, Notice, RequestFinished, RequestRejected
from django_wsgiserve.logs.access_json import LOGGER_NAME as ACCESS_LOGGER_NAME
from django_wsgiserve.logs.access_line import compile_observer
from django_wsgiserve.logs.devices import is_terminal, open_destination, path_problem
from django_wsgiserve.logs.logger_route import AccessRoute
from django_wsgiserve.logs.operations import OperationsLog
from django_wsgiserve.logs.records import LOGGER_NAME as SERVER_LOGGER_NAME
from django_wsgiserve.logs.records import LogRecord, RenderRecord, renderer
from django_wsgiserve.logs.targets import LogTarget, TargetSpec

if TYPE_CHECKING:
    from django_wsgiserve.config import ServerConfig
    from django_wsgiserve.logs.banner import BannerValues

__all__ = ["ACCESS_LOGGER_NAME", "SERVER_LOGGER_NAME", "Logs", "open_logs"]

SUPERVISOR = "supervisor"
"""The role that serves no request, and refuses to start when a log file cannot be opened."""

RETRY_S = 1.0
"""How long a process may wait, while `Logs.pending`, before it flushes again."""

_STDOUT, _STDERR = 1, 2


class Logs:
    """Both logs of this process, as `open_logs` opened them."""

    def __init__(self, operations: OperationsLog, access: LogTarget | None) -> None:
        """Store; `access` is `None` when there is no access log, or a logger writes it."""
        self._operations = operations
        self._targets = [operations.target] if access is None else [operations.target, access]

    @property
    def pending(self) -> bool:
        """Whether something waits to be written; then `flush` before, and RETRY_S after, a wait."""
        for target in self._targets:
            if target.is_held:
                return True
        return self._operations.has_suppressed

    def flush(self) -> None:
        """Write what is held: one system call for many lines, none when there is nothing."""
        for target in self._targets:
            if target.written or target.is_behind:
                target.flush()
        if self._operations.has_suppressed:
            self._operations.tell_suppressed()

    def reopen(self) -> None:
        """Open the log files by their paths again (SIGUSR1, after a rotation)."""
        for target in self._targets:
            target.reopen()

    def close(self) -> None:
        """Write what can be written within half a second for each log, and close."""
        self._operations.tell_suppressed(now=True)
        self._operations.release_server_logger()
        for target in reversed(self._targets):
            target.close()

    def write_banner(self, values: BannerValues) -> None:
        """Write the start-up banner to the operations log."""
        self._operations.write_banner(values)


def open_logs(
    config: ServerConfig,
    events: EventBus,
    *,
    role: str,
    access_logger: logging.Logger | None = None,
    server_logger: logging.Logger | None = None,
) -> Logs:
    """Open the logs of this process and subscribe them to its events.

    A log that cannot be opened does not keep a worker from serving: it is tried again, and
    its lines are kept and then dropped. Only the supervisor, which is there first,
    refuses.

    Args:
        config: `access_logfile`, `access_log_format`, `error_logfile`, `log_level`, `log_format`.
        events: What to observe.
        role: What this process is called in the operations log; `supervisor` has no access log.
        access_logger: Where the project wants access records; `None` for `access_logfile`.
        server_logger: Where the project wants operations records; `None` for `error_logfile`.

    Raises:
        ConfigError: The access log's format has mistakes; or, in the supervisor, a log
            file cannot be opened.
    """
    if role == SUPERVISOR:
        _refuse_unusable_files(config)
    operations = _open_operations(config, role)
    if server_logger is not None:
        operations.use_logger(server_logger)
    operations.adopt_server_logger()
    events.subscribe(Notice, operations.on_notice)
    events.subscribe(AppFailed, operations.on_app_failed)
    events.subscribe(RequestRejected, operations.on_request_rejected)

    access: LogTarget | None = None
    if not config.access_logfile or role == SUPERVISOR:
        return Logs(operations, None)
    if access_logger is not None:
        route = AccessRoute(operations.route(access_logger), config.access_log_format)
        events.subscribe(RequestFinished, route.observe)
    else:
        access = _open_access(config, events, role, operations)
    return Logs(operations, access)


def _refuse_unusable_files(config: ServerConfig) -> None:
    problems = []
    for key, path in (
        ("ACCESS_LOGFILE", config.access_logfile),
        ("ERROR_LOGFILE", config.error_logfile),
    ):
        problem = path_problem(path) if path not in ("", "-") else ""
        if problem:
            problems.append(f"{key}: {problem}")
    if problems:
        raise ConfigError("; ".join(problems), 'use "-" to log to the standard streams')


def _open_operations(config: ServerConfig, role: str) -> OperationsLog:
    destination = config.error_logfile or "-"
    render = renderer(config.log_format, on_terminal=is_terminal(destination, _STDERR))

    def report(message: str) -> None:
        # Told where it happens: it is read when the target works again.
        target.write(render(LogRecord(level=logging.WARNING, message=message, role=role)))

    target = LogTarget(
        TargetSpec(
            name=_target_name("operations log", destination, "stderr"),
            open_device=functools.partial(open_destination, destination, _STDERR),
            reopens=destination != "-",
            dropped_line=functools.partial(_dropped_line, render, role, SERVER_LOGGER_NAME),
            report=report,
        )
    )
    target.open()
    minimum_level = logging.getLevelNamesMapping()[config.log_level.upper()]
    return OperationsLog(target, render, role=role, minimum_level=minimum_level)


def _open_access(
    config: ServerConfig, events: EventBus, role: str, operations: OperationsLog
) -> LogTarget:
    destination = config.access_logfile
    on_terminal = is_terminal(destination, _STDOUT)
    writes_json = config.access_log_format == "json" or (
        config.access_log_format == "auto" and not on_terminal
    )
    render = renderer("json" if writes_json else "text", on_terminal=on_terminal)
    target = LogTarget(
        TargetSpec(
            name=_target_name("access log", destination, "stdout"),
            open_device=functools.partial(open_destination, destination, _STDOUT),
            reopens=destination != "-",
            dropped_line=functools.partial(_dropped_line, render, role, ACCESS_LOGGER_NAME),
            report=operations.warn_here,
            encode=str.encode,
        )
    )
    observer = compile_observer(config.access_log_format, target.write, on_terminal=on_terminal)
    target.open()
    events.subscribe(RequestFinished, observer)
    return target


def _target_name(log: str, destination: str, standard_name: str) -> str:
    return f"{log} ({standard_name if destination == '-' else destination})"


def _dropped_line(render: RenderRecord, role: str, logger_name: str, count: int) -> bytes:
    lines = "1 line was" if count == 1 else f"{count} lines were"
    return render(
        LogRecord(
            level=logging.WARNING,
            message=f"{lines} dropped: nobody took what this log wrote",
            role=role,
            logger_name=logger_name,
            fields={"dropped_lines": count},
        )
    )
