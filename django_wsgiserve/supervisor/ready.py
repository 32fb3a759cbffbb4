"""Telling whoever started the server that it answers: `--ready-fd`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterable
from typing import Any

from django_wsgiserve.sockets import Listener


def ready_line(pid: int, listeners: Iterable[Listener]) -> bytes:
    r"""Return the line: `{"pid": 1, "addresses": [{"name": …, "host": …, "port": …}]}\n`.

    A Unix socket has `path` instead of `host` and `port`.
    """
    addresses: list[dict[str, Any]] = []
    for listener in listeners:
        address: dict[str, Any] = {"name": listener.name, "url": listener.url}
        bound = listener.socket.getsockname()
        if listener.family == socket.AF_UNIX:
            address["path"] = os.fsdecode(bound)
        else:
            address["host"], address["port"] = bound[0], bound[1]
        addresses.append(address)
    return json.dumps({"pid": pid, "addresses": addresses}).encode() + b"\n"


def write_ready(fd: int, line: bytes) -> None:
    """Write the line to `fd` and close it. Who stopped listening is not an error."""
    with contextlib.suppress(OSError):
        while line:
            line = line[os.write(fd, line) :]
    with contextlib.suppress(OSError):
        os.close(fd)
