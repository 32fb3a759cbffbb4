"""The standard library as it is without gevent's patches.

Under `WORKER_CLASS = "gevent"` what a project finds in `socket`, `select`, `os` and
others waits cooperatively. The server's own descriptors do not: they never block, one
place of each process waits for them, and an object that brings watchers of its own
would only cost. So the server takes the originals, patched or not.

To be imported after the patches: see `patching.py`.
"""

from __future__ import annotations

import _socket
import os
import select
import selectors
import signal
import socket
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any


def original(module: ModuleType, name: str) -> Any:
    """Return what `module` had as `name` before it was patched, or has."""
    monkey = sys.modules.get("gevent.monkey")
    return getattr(module, name) if monkey is None else monkey.get_original(module.__name__, name)


if TYPE_CHECKING:
    from os import close, fork, waitpid
    from select import poll
    from selectors import DefaultSelector
    from signal import set_wakeup_fd
    from signal import signal as set_handler
    from socket import socket as Socket  # noqa: N812 - a class, whatever its name
else:
    Socket = original(socket, "socket")
    DefaultSelector = original(selectors, "DefaultSelector")
    poll = original(select, "poll")
    close = original(os, "close")
    fork = original(os, "fork")
    waitpid = original(os, "waitpid")
    set_handler = original(signal, "signal")
    set_wakeup_fd = original(signal, "set_wakeup_fd")


# The numbers, of which `socket.socket` makes enumerations.
_family_of = _socket.socket.family.__get__
_type_of = _socket.socket.type.__get__


def socketpair() -> tuple[Socket, Socket]:
    """Return two stream sockets that are connected to each other."""
    # socket.socketpair() makes sockets of whatever class its module has now.
    first, second = _socket.socketpair()
    return _adopted(first), _adopted(second)


def _adopted(sock: Any) -> Socket:
    return Socket(sock.family, sock.type, sock.proto, sock.detach())


def accept(listening: Socket) -> tuple[Socket, Any]:
    """Accept a connection; return it, blocking, and the peer's address.

    Raises:
        OSError: As `socket.accept`.
    """
    # socket.accept() makes a socket of whatever class its module has now, and asks for family
    # and type as members of enumerations, which takes as long as to accept.
    fd, address = listening._accept()  # type: ignore[attr-defined]
    return Socket(_family_of(listening), _type_of(listening), listening.proto, fd), address


__all__ = [
    "DefaultSelector",
    "Socket",
    "accept",
    "close",
    "fork",
    "original",
    "poll",
    "set_handler",
    "set_wakeup_fd",
    "socketpair",
    "waitpid",
]
