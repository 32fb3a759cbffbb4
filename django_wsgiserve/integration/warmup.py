"""Requests to a newly loaded project, in process, before it serves anybody.

They go through the whole middleware stack, so that what is imported, compiled and cached
on a first request is there before the fork, shared by all workers, and so that a project
that fails on every page is known to before it is let in.
"""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from django.conf import settings
from django.core.signals import got_request_exception

from django_wsgiserve.integration.deadlines import TooLong, limited

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

_EVERYTHING_LOCAL = "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """How a request must look for the project to answer it."""

    host: str
    scheme: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back. `status` 0: nothing, for the reason in `detail`."""

    path: str
    status: int
    detail: str = ""
    """The traceback of an exception that became a 500."""

    @property
    def failed(self) -> bool:
        """The site could not answer; a 404 or a redirect to a login is an answer."""
        return not 0 < self.status < 500


def visitor() -> Visitor:
    """Return a host that ALLOWED_HOSTS accepts, and the scheme that is not redirected."""
    hosts = [host for host in settings.ALLOWED_HOSTS if host != "*"]
    # ".example.com" is every subdomain and the domain itself.
    host = hosts[0].lstrip(".") if hosts and "*" not in settings.ALLOWED_HOSTS else ""
    scheme = "https" if settings.SECURE_SSL_REDIRECT else "http"
    return Visitor(host=host or _EVERYTHING_LOCAL, scheme=scheme)


def warm_up(
    application: WSGIApplication, paths: tuple[str, ...], who: Visitor, limit_s: float
) -> Iterator[Answer]:
    """Request each path and yield what came back.

    Args:
        application: The project's WSGI application.
        paths: Paths with an optional query, such as `/` or `/search?q=a`.
        who: Host and scheme of the requests.
        limit_s: Seconds for one request; one that takes longer is broken off.
    """
    for path in paths:
        try:
            with limited(limit_s):
                answer = _request(application, path, who)
        except TooLong:
            answer = Answer(path=path, status=0, detail=f"no answer within {limit_s:g} s")
        yield answer


def _request(application: WSGIApplication, path: str, who: Visitor) -> Answer:
    statuses: list[str] = []
    tracebacks: list[str] = []

    def start_response(
        status: str,
        headers: list[tuple[str, str]],
        exc_info: tuple[type[BaseException], BaseException, TracebackType] | Any = None,
    ) -> Any:
        statuses.append(status)
        return io.BytesIO().write

    def remember(**_: Any) -> None:
        tracebacks.append(traceback.format_exc())

    got_request_exception.connect(remember, weak=False)
    try:
        response = application(_environ(path, who), start_response)
        try:
            for _ in response:
                pass
        finally:
            close = getattr(response, "close", None)
            if close is not None:
                close()
    except Exception:  # whatever the project raises, it is its answer
        return Answer(path=path, status=500, detail=traceback.format_exc())
    finally:
        got_request_exception.disconnect(remember)
    status = int(statuses[-1].split()[0]) if statuses else 0
    return Answer(path=path, status=status, detail="".join(tracebacks[-1:]))


def _environ(path: str, who: Visitor) -> dict[str, Any]:
    raw_path, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(raw_path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": who.host,
        "SERVER_PORT": "443" if who.scheme == "https" else "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": who.host,
        "HTTP_USER_AGENT": "django-wsgiserve (warm-up)",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": who.scheme,
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if who.scheme == "https" and settings.SECURE_PROXY_SSL_HEADER:
        name, value = settings.SECURE_PROXY_SSL_HEADER
        environ[name] = value
    return environ
