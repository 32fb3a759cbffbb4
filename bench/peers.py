"""The servers that are compared: how each is started, and why in this way.

All get the same number of workers and of requests that a worker may run at once. Whoever
can write an access log writes one, to /dev/null, as this server does; whoever can keep
connections keeps them for as long as this server.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sites import Site

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
# Some servers hold 100 or 1 000 connections by default; a scenario has 1 000 idle ones.
CONNECTIONS = "2000"
KEEPALIVE_S = "75"
PYTHON_M = ("{python}", "-m")
ADDRESS = "{address}"


@dataclass(frozen=True, slots=True)
class Task:
    """What a scenario asks of every server.

    `threads` is how many requests a worker may run at once; a worker that cannot have
    threads runs one.
    """

    site: Site
    workers: int = 1
    threads: int = 1
    proxy: str = ""
    """nginx in front, at a Unix socket: `keep-alive` or `close` towards the server."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server.

    In its command `{python}`, `{prefix}`, `{wsgi}`, `{workers}`, `{threads}` are filled in;
    `{address}` becomes the words of `tcp` or `unix`, with `{port}` or `{path}`.
    """

    name: str
    distribution: str
    command: tuple[str, ...]
    tcp: tuple[str, ...]
    unix: tuple[str, ...] = ()
    nginx: str = "proxy_pass http://"
    """How nginx speaks to it."""
    remark: str = ""
    """What a reader of its figures has to know."""

    @property
    def version(self) -> str:
        """The installed version; empty if it is not installed."""
        return installed_version(self.distribution)

    def command_for(self, task: Task, *, port: int, path: Path) -> list[str]:
        """Return the command that serves `task` at `port`, or at `path` behind a proxy."""
        values = {
            "python": sys.executable,
            "prefix": sys.prefix,
            "wsgi": task.site.wsgi,
            "workers": task.workers,
            "threads": task.threads,
            "port": port,
            "path": path,
        }
        address = self.unix if task.proxy else self.tcp
        at = self.command.index(ADDRESS)
        words = (*self.command[:at], *address, *self.command[at + 1 :])
        return [word.format(**values) for word in words]


def installed_version(distribution: str) -> str:
    """Return the version of a distribution; empty if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def ours(name: str, *options: str, remark: str = "") -> Peer:
    """Return this server with `options`; it reads the application from Django's settings."""
    return Peer(
        name,
        "django-wsgiserve",
        (
            *(*PYTHON_M, "django", "runprod", "--workers", "{workers}", *options),
            *("--access-logfile", os.devnull, "--keepalive", KEEPALIVE_S),
            *("--worker-connections", CONNECTIONS, ADDRESS),
        ),
        tcp=("--bind", "127.0.0.1:{port}"),
        unix=("--bind", "unix:{path}"),
        remark=remark,
    )


def gunicorn(name: str, *options: str, remark: str = "") -> Peer:
    """Return Gunicorn with `options`; its C parser is used if it is installed (the default)."""
    return Peer(
        name,
        "gunicorn",
        (
            *(*PYTHON_M, "gunicorn", "{wsgi}:application", "--workers", "{workers}", *options),
            *("--access-logfile", os.devnull, "--keep-alive", KEEPALIVE_S),
            *("--worker-connections", CONNECTIONS),
            # Several run at once here, and all would want the same control socket.
            *("--no-control-socket", ADDRESS),
        ),
        tcp=("--bind", "127.0.0.1:{port}"),
        unix=("--bind", "unix:{path}"),
        remark=remark,
    )


def uwsgi(name: str, *options: str, remark: str = "") -> Peer:
    """Return uWSGI with `options`, speaking HTTP itself, or its own protocol behind nginx."""
    return Peer(
        name,
        "uwsgi",
        (
            *("{prefix}/bin/uwsgi", "--home", "{prefix}", "--module", "{wsgi}:application"),
            *("--master", "--processes", "{workers}", "--need-app"),
            # Without it SIGTERM means reload.
            "--die-on-term",
            # 100 by default, where the others have 1 024 and more.
            *("--listen", "1024", "--req-logger", f"file:{os.devnull}", *options, ADDRESS),
        ),
        # It closes every connection and does not say so, which clients take for a failure.
        tcp=("--http-socket", "127.0.0.1:{port}", "--add-header", "Connection: close"),
        unix=("--socket", "{path}"),
        nginx="include /etc/nginx/uwsgi_params; uwsgi_pass ",
        remark=remark
        or "closes every connection; so ends what has no length, and wrk takes that for a failure",
    )


def granian(name: str, *options: str, remark: str = "") -> Peer:
    """Return Granian with `options`; its logging can be told where to write only by a file."""
    return Peer(
        name,
        "granian",
        (
            *(*PYTHON_M, "granian", "--interface", "wsgi", "{wsgi}:application"),
            *("--workers", "{workers}", "--blocking-threads", "{threads}"),
            # As many requests may wait as others let wait; the default falls with the workers.
            *("--backlog", "2048", "--backpressure", CONNECTIONS, *options, ADDRESS),
        ),
        tcp=("--port", "{port}"),
        unix=("--uds", "{path}"),
        remark=remark,
    )


OURS = ours("django-wsgiserve", "--worker-class", "sync")
OURS_THREADS = ours(
    "django-wsgiserve threads", "--worker-class", "threads", "--threads", "{threads}"
)
OURS_GEVENT = ours(
    "django-wsgiserve gevent", "--worker-class", "gevent", "--greenlets", "{threads}"
)
# To show what passing connections on is worth: every connection stays where it was accepted.
OURS_STAYING = ours("django-wsgiserve, handoff off", "--worker-class", "sync", "--no-handoff")
GUNICORN_SYNC = gunicorn("Gunicorn sync", remark="closes every connection")
GUNICORN_GTHREAD = gunicorn(
    "Gunicorn gthread", "--worker-class", "gthread", "--threads", "{threads}"
)
# It has no bound on requests at once but that of connections.
GUNICORN_GEVENT = gunicorn("Gunicorn gevent", "--worker-class", "gevent")
UWSGI = uwsgi("uWSGI")
UWSGI_THREADS = uwsgi("uWSGI threads", "--threads", "{threads}")
UWSGI_GEVENT = uwsgi("uWSGI gevent", "--gevent", "{threads}", "--gevent-early-monkey-patch")
# The only way in which uWSGI keeps connections and serves others meanwhile: with
# --http11-socket a connection has its worker to itself, and 15 of 16 clients get no answer.
UWSGI_ROUTER = Peer(
    "uWSGI, HTTP router",
    "uwsgi",
    UWSGI.command,
    tcp=("--http", "127.0.0.1:{port}", f"--http-keepalive={KEEPALIVE_S}", "--so-keepalive"),
    remark="a process of its own speaks HTTP; its CPU is counted",
)
GRANIAN = granian("Granian", "--access-log", "--log-config", str(BENCH / "granian_logging.json"))
GRANIAN_NO_LOG = granian("Granian, no access log", remark="its default; the others write one")
BJOERN = Peer(
    "bjoern",
    "bjoern",
    ("{python}", str(BENCH / "bjoern_server.py"), "{wsgi}", "{workers}", ADDRESS),
    tcp=("127.0.0.1:{port}",),
    unix=("unix:{path}",),
    remark="has no access log",
)
WAITRESS = Peer(
    "waitress",
    "waitress",
    (
        *(*PYTHON_M, "waitress", "--threads={threads}", f"--connection-limit={CONNECTIONS}"),
        # select(), its default, ends at descriptor 1 023.
        *(f"--channel-timeout={KEEPALIVE_S}", "--asyncore-use-poll"),
        *(ADDRESS, "{wsgi}:application"),
    ),
    tcp=("--listen=127.0.0.1:{port}",),
    unix=("--unix-socket={path}",),
    remark="has no access log",
)
CHEROOT = Peer(
    "cheroot",
    "cheroot",
    (
        *(*PYTHON_M, "cheroot", "{wsgi}:application", "--timeout", KEEPALIVE_S),
        # As many threads at most as at least: nobody else's pool grows under load.
        *("--threads", "{threads}", "--max-threads", "{threads}"),
        # 5 by default: at a Unix socket nginx is refused then, and answers 502.
        *("--request-queue-size", "1024", ADDRESS),
    ),
    tcp=("--bind", "127.0.0.1:{port}"),
    unix=("--bind", "{path}"),
    remark="has no access log; keeps at most 10 idle connections",
)
