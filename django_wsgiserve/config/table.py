"""The one table of what the server may be told, and the value it is told with.

A row of `ServerConfig` is all there is to a setting: its key in `WSGISERVE`, its flag,
its environment variable, the check of its value, its line in `--help` and in the
reference follow from it. Where values come from and who wins is `resolution.py`'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from django_wsgiserve.config.options import (
    ACCESS_FORMAT,
    ADDRESSES,
    BOOLEAN,
    DIRECTORY,
    DURATION,
    FILE,
    LONGEST_S,
    MODE,
    PATHS,
    SIZE,
    TEXT,
    WHOLE,
    WORD,
    WORKER_COUNT,
    Option,
    Row,
    Topic,
    row,
)
from django_wsgiserve.config.views import VIEWS, ViewOptions

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
GIBIBYTE = 1024 * MEBIBYTE
# A worker has a row in the scoreboard, and two while it is being replaced; there are 512.
MOST_WORKERS = 256
# More do not make a Python process faster, and each has a cell in its scoreboard row.
MOST_THREADS = 256
_DEFAULT_THREADS = 4
# Greenlets are cheap, what each may keep open is not: PostgreSQL has 97 connections to
# give by default, for all workers together.
MOST_GREENLETS = 1000
_DEFAULT_GREENLETS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Everything the server is told, every value checked and resolved."""

    # A setting is a paragraph here; the formatter would make each argument a line.
    # fmt: off
    bind: tuple[str, ...] = row(("127.0.0.1:8000",), Option(
        ADDRESSES, Topic.LISTENING,
        "Addresses to listen on. Port 0 takes a free port, a missing port is 8000.",
        short="-b", platform_variable="PORT", platform_form="0.0.0.0:{}", reloads=False))
    backlog: int = row(2048, Option(
        WHOLE, Topic.LISTENING, "Connections that may wait to be accepted, for each address.",
        unit="connections", minimum=1, maximum=65535, reloads=False))
    socket_mode: int = row(0o666, Option(
        MODE, Topic.LISTENING, "Permissions of the file of a Unix socket.",
        reloads=False))

    workers: int = row(1, Option(
        WORKER_COUNT, Topic.WORKERS,
        "Worker processes to keep alive; auto: two for each usable CPU and one more, or one "
        "for each and one more where a worker runs several requests at once.",
        unit="processes", maximum=MOST_WORKERS, short="-w", platform_variable="WEB_CONCURRENCY",
        default_shown="auto", example="4"))
    workers_reason: str = ""
    """How `workers` came about, for the banner: its arithmetic, or where it was set."""
    worker_class: str = row("sync", Option(
        WORD, Topic.WORKERS,
        "How a worker runs requests. sync: one at a time; threads: several, see THREADS; "
        "gevent: several that wait cooperatively, see GREENLETS.",
        choices=("sync", "threads", "gevent"), synonyms={"gthread": "threads"}, short="-k"))
    threads: int = row(0, Option(
        WHOLE, Topic.WORKERS,
        "Requests that a worker runs at once. More than one make sync mean threads.",
        unit="threads", minimum=0, maximum=MOST_THREADS, zero="1 for sync, 4 for threads",
        example="4"))
    greenlets: int = row(_DEFAULT_GREENLETS, Option(
        WHOLE, Topic.WORKERS,
        "Requests that a gevent worker runs at once. Each keeps database connections of its own.",
        unit="greenlets", minimum=1, maximum=MOST_GREENLETS))
    worker_connections: int = row(1000, Option(
        WHOLE, Topic.WORKERS, "Connections that one worker holds, idle ones included.",
        unit="connections", minimum=1, maximum=1_000_000))
    handoff: bool = row(True, Option(
        BOOLEAN, Topic.WORKERS,
        "Whether a connection may move from a worker that is busy or leaves to another one."))
    max_requests: int = row(0, Option(
        WHOLE, Topic.WORKERS, "Replace a worker after so many requests.",
        unit="requests", minimum=0, maximum=10**12, zero="never"))
    max_requests_jitter: int = row(0, Option(
        WHOLE, Topic.WORKERS,
        "Add up to so many to MAX_REQUESTS, by chance for each worker, so that they do not "
        "all leave together.",
        unit="requests", minimum=0, maximum=10**12))
    warmup: tuple[str, ...] = row(("/",), Option(
        PATHS, Topic.WORKERS,
        "Paths requested of a newly loaded project before it serves anybody."))

    timeout_s: float = row(30.0, Option(
        DURATION, Topic.DEADLINES, "How long a request may run before its worker is replaced.",
        minimum=0, maximum=LONGEST_S, zero="no deadline", short="-t"))
    max_queue_wait_s: float = row(0.0, Option(
        DURATION, Topic.DEADLINES,
        "How long a request may wait for a worker to have time for it; then it gets 503.",
        minimum=0, maximum=LONGEST_S, zero="for as long as it takes", example="2s"))
    graceful_timeout_s: float = row(30.0, Option(
        DURATION, Topic.DEADLINES,
        "How long running requests may go on when a worker has to leave.",
        minimum=0, maximum=LONGEST_S))
    keepalive_s: float = row(75.0, Option(
        DURATION, Topic.DEADLINES,
        "How long an idle connection is kept. Stay above the idle timeout of the proxy in "
        "front, which for most is 60s.",
        minimum=0, maximum=LONGEST_S, zero="no keep-alive", aliases=("--keep-alive",)))
    header_timeout_s: float = row(15.0, Option(
        DURATION, Topic.DEADLINES, "How long a client may take to send the head of a request.",
        minimum=0.1, maximum=LONGEST_S))
    body_timeout_s: float = row(30.0, Option(
        DURATION, Topic.DEADLINES, "How long a client may send nothing of an unfinished body.",
        minimum=0.1, maximum=LONGEST_S))
    body_min_rate: int = row(256, Option(
        SIZE, Topic.DEADLINES,
        "Least bytes a second of a request body, on the average and after the first "
        "BODY_TIMEOUT; a slower one gets 408.",
        minimum=0, maximum=GIBIBYTE, zero="any rate"))
    write_timeout_s: float = row(60.0, Option(
        DURATION, Topic.DEADLINES,
        "How long a client may read nothing of an unfinished response.",
        minimum=0.1, maximum=LONGEST_S))
    boot_timeout_s: float = row(60.0, Option(
        DURATION, Topic.DEADLINES,
        "How long the project may take to load, and a new worker to answer.",
        minimum=0.1, maximum=LONGEST_S))
    drain_delay_s: float = row(0.0, Option(
        DURATION, Topic.DEADLINES,
        "How long to go on serving after TERM, until a load balancer has noticed.",
        minimum=0, maximum=LONGEST_S, example="5s"))

    views: tuple[ViewOptions, ...] = row((), Option(
        VIEWS, Topic.VIEWS,
        "What holds for single views, also for those of others' apps. Where several entries "
        "fit, the most specific wins; and each wins over the view's own decorators.",
        settings_only=True, default_shown="none",
        example='{"reports:export": {"TIMEOUT": "5m"}}'))

    limit_request_line: int = row(8190, Option(
        SIZE, Topic.LIMITS, "Longest request line; a longer one gets 414.",
        minimum=16, maximum=MEBIBYTE, zero="the most, 1MiB", zero_is_maximum=True))
    limit_request_fields: int = row(100, Option(
        WHOLE, Topic.LIMITS, "Most header fields of a request; more get 431.",
        unit="fields", minimum=1, maximum=32768, zero="the most, 32768", zero_is_maximum=True))
    limit_request_field_size: int = row(8190, Option(
        SIZE, Topic.LIMITS, "Longest header field; a longer one gets 431.",
        minimum=16, maximum=MEBIBYTE, zero="the most, 1MiB", zero_is_maximum=True,
        aliases=("--limit-request-field_size",)))
    limit_request_body: int = row(GIBIBYTE, Option(
        SIZE, Topic.LIMITS, "Largest body of a request; a larger one gets 413.",
        minimum=0, zero="no limit"))
    spool_memory: int = row(MEBIBYTE, Option(
        SIZE, Topic.LIMITS,
        "How much of a body is held in memory; what is more goes to a temporary file.",
        minimum=0, maximum=GIBIBYTE))
    spool_limit: int = row(GIBIBYTE, Option(
        SIZE, Topic.LIMITS,
        "How much of a response is held for a slow reader before the application has to wait.",
        minimum=64 * KIBIBYTE))
    spool_dir: str = row("", Option(
        DIRECTORY, Topic.LIMITS, "Where those temporary files are made.",
        default_shown="the system's", example="/var/tmp"))  # noqa: S108 - shown, never opened

    access_logfile: str = row("-", Option(
        FILE, Topic.LOGS, "The access log; - is standard output, off writes none.",
        gunicorn_key="accesslog"))
    access_log_format: str = row("auto", Option(
        ACCESS_FORMAT, Topic.LOGS,
        "A line of the access log: combined, json or a format of Gunicorn's; auto: combined "
        "on a terminal, else json.",
        aliases=("--access-logformat",)))
    error_logfile: str = row("-", Option(
        FILE, Topic.LOGS, "The operations log; - is standard error.",
        aliases=("--log-file",), gunicorn_key="errorlog"))
    log_level: str = row("info", Option(
        WORD, Topic.LOGS, "The least level that the operations log writes.",
        choices=("debug", "info", "warning", "error", "critical"), gunicorn_key="loglevel"))
    log_format: str = row("auto", Option(
        WORD, Topic.LOGS, "A line of the operations log; auto: text on a terminal, else json.",
        choices=("auto", "text", "json")))

    pidfile: str = row("", Option(
        FILE, Topic.PROCESS, "A file to lock and to write the process id to.",
        short="-p", aliases=("--pid",), reloads=False, default_shown="none",
        example="/run/site.pid"))
    proc_name: str = row("", Option(
        TEXT, Topic.PROCESS, "The name that ps and top show.",
        short="-n", aliases=("--name",), default_shown="wsgiserve", example="site"))
    server_header: bool = row(True, Option(
        BOOLEAN, Topic.PROCESS, "Name this server in responses."))
    ready_fd: int = row(-1, Option(
        WHOLE, Topic.PROCESS,
        "A descriptor to write the addresses to, as a line of JSON, when the first worker "
        "can answer.",
        minimum=0, maximum=2**31 - 1, flag_only=True, reloads=False, default_shown="none",
        example="3"))
    # fmt: on

    @property
    def request_slots(self) -> int:
        """How many requests a worker runs at once."""
        if self.worker_class == "gevent":
            return self.greenlets
        if self.threads:
            return self.threads
        return _DEFAULT_THREADS if self.worker_class == "threads" else 1

    @property
    def worker_class_shown(self) -> str:
        """The worker class as it works out, with the number of request slots; for people."""
        slots = self.request_slots
        if self.worker_class == "gevent":
            return f"gevent × {slots}"  # noqa: RUF001 - for people
        return f"threads × {slots}" if slots > 1 else "sync"  # noqa: RUF001 - for people

    def needing_restart(self, running: ServerConfig) -> list[Row]:
        """Return the rows that differ from the `running` values and that no reload changes."""
        return [
            row
            for row in table()
            if not row.option.reloads and getattr(self, row.field) != getattr(running, row.field)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as an object that `json.dumps` takes."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ServerConfig:
        """Return what `to_json` wrote; the values were checked then.

        During an upgrade in place the two sides may be of different versions: a field
        that only the writer knows is left out, one that only we know has its default.
        """
        known: dict[str, Any] = {
            field.name: tuple(value) if isinstance(value, list) else value
            for field in dataclasses.fields(cls)
            if (value := values.get(field.name)) is not None
        }
        known["views"] = tuple(map(ViewOptions.from_json, known.get("views", ())))
        return cls(**known)


@cache
def table() -> tuple[Row, ...]:
    """Return every row, in the order of `ServerConfig`, which is that of the topics."""
    return tuple(
        Row(field.name, field.default, field.metadata["option"])
        for field in dataclasses.fields(ServerConfig)
        if "option" in field.metadata
    )
