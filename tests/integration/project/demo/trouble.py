"""Views that block, burn, break and die."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import sys
from itertools import count

from django.http import HttpRequest, HttpResponse
from django.urls import resolve

HOLD_S = 60


def hold(request: HttpRequest) -> HttpResponse:
    """Report to the gate (a local port of the test), wait for its word, run another view."""
    port = int(request.GET["gate"])
    with socket.create_connection(("127.0.0.1", port), timeout=HOLD_S) as gate:
        gate.sendall(f"{os.getpid()}\n".encode())
        gate.recv(1)
    response: HttpResponse = resolve(request.GET["then"]).func(request)
    return response


def fail(request: HttpRequest) -> HttpResponse:
    """Raise, with a text that no client may see."""
    msg = "secret-in-the-traceback"
    raise RuntimeError(msg)


def spin_in_python(request: HttpRequest) -> HttpResponse:
    """Never return, but let other threads run."""
    for _ in count():
        pass
    return HttpResponse()


def spin_in_c(request: HttpRequest) -> HttpResponse:
    """Never return from one call of C code, which holds the interpreter's lock."""
    re.match(r"(a|aa)+$", "a" * 200 + "b")
    return HttpResponse()


def leave(request: HttpRequest) -> HttpResponse:
    """End the worker, as a crash in a C extension would."""
    os._exit(int(request.GET.get("code", "7")))


def give_up(request: HttpRequest) -> HttpResponse:
    """End the program, as somebody thinks who has only seen scripts."""
    sys.exit("secret-reason")


def crash(request: HttpRequest) -> HttpResponse:
    """Break the process as a wild pointer in a C extension does."""
    ctypes.string_at(0)
    return HttpResponse()


def short(request: HttpRequest) -> HttpResponse:
    """Announce more than is sent."""
    response = HttpResponse("ten bytes!", content_type="text/plain")
    response["Content-Length"] = "100"
    return response
