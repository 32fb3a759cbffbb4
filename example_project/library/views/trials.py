"""Pages that behave as pages do on a bad day, and pages that tell who answered."""

from __future__ import annotations

import hashlib
import os
import platform
import threading
import time

import django
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from example_project.library.release import RELEASE
from example_project.library.views.numbers import number_from

LONGEST_S = 600.0


class ShelfCollapsed(Exception):
    """What `/raise/` raises: nobody catches it but Django."""


def fast(request: HttpRequest) -> HttpResponse:
    """Show a small page rendered from a template, without a database or a session."""
    return render(request, "library/fast.html", {"release": RELEASE, "path": request.path})


@require_GET
def slow(request: HttpRequest) -> HttpResponse:
    """Wait for `seconds` (1 by default), as on a slow neighbour, then answer."""
    seconds = number_from(request, "seconds", default=1.0, most=LONGEST_S)
    time.sleep(seconds)
    return HttpResponse(f"waited {seconds:g} s\n", content_type="text/plain")


@require_GET
def burn(request: HttpRequest) -> HttpResponse:
    """Use a processor for `seconds` (1 by default) of this thread's CPU time, then answer."""
    seconds = number_from(request, "seconds", default=1.0, most=LONGEST_S)
    started_s, rounds, digest = time.thread_time(), 0, b""
    while time.thread_time() - started_s < seconds:
        digest = hashlib.sha256(digest).digest()
        rounds += 1
    return HttpResponse(f"burnt {seconds:g} s in {rounds} rounds\n", content_type="text/plain")


def fail(request: HttpRequest) -> HttpResponse:
    """Raise, whatever is asked."""
    raise ShelfCollapsed(f"asked for it with {request.method} {request.get_full_path()}")


def whoami(request: HttpRequest) -> JsonResponse:
    """Return who answers (process, thread) and what the server said of the request.

    `meta` has every string of the environ that came from the request or the server,
    and nothing of the process's environment variables; `wsgi` has the flags of PEP 3333.
    """
    prefixes = ("CONTENT_", "HTTP_", "PATH_INFO", "QUERY_", "REMOTE_", "REQUEST_", "SCRIPT_")
    meta = {
        key: value
        for key, value in request.META.items()
        if isinstance(value, str) and key.startswith((*prefixes, "SERVER_"))
    }
    flags = ("multiprocess", "multithread", "run_once", "url_scheme", "input_terminated")
    return JsonResponse(
        {
            "pid": os.getpid(),
            "parent_pid": os.getppid(),
            "thread": threading.current_thread().name,
            "release": RELEASE,
            "user": request.user.get_username(),
            "meta": meta,
            "wsgi": {flag: request.META.get(f"wsgi.{flag}") for flag in flags},
        }
    )


@require_GET
def version(request: HttpRequest) -> JsonResponse:
    """Return which release of the site runs, and on what."""
    return JsonResponse(
        {
            "release": RELEASE,
            "django": django.get_version(),
            "python": platform.python_version(),
            "pid": os.getpid(),
        }
    )
