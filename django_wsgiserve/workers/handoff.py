"""Connections on their way from one worker to another.

A SOCK_SEQPACKET socketpair that the supervisor makes and every worker of every
generation inherits is a queue of connections: who cannot serve one now puts its
descriptor in (SCM_RIGHTS, unix(7)), who is idle takes one out, as it would accept one.
Not SOCK_DGRAM: the kernel lets ten datagrams wait (net.unix.max_dgram_qlen), packets of
a connected pair as many as its buffer holds, some hundreds.

Only connections between two requests travel, with nothing read and nothing to be sent;
what the client has sent meanwhile waits in the kernel and arrives with the descriptor.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import socket
from typing import TYPE_CHECKING

from django_wsgiserve.workers.connection import State

if TYPE_CHECKING:
    from django_wsgiserve.workers.connection import Connection

_MESSAGE_BYTES = 512
_DESCRIPTOR_BYTES = array.array("i").itemsize
# The queue is full, or the kernel will not have more descriptors on their way: later.
_FULL = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS})


class Handoff:
    """A worker's two ends of the queue."""

    def __init__(self, send_fd: int, receive_fd: int) -> None:
        """Store; the descriptors are the process's, for as long as it lives."""
        self._sender = socket.socket(fileno=send_fd)
        self._receiver = socket.socket(fileno=receive_fd)
        self._sender.setblocking(False)
        self._receiver.setblocking(False)
        self.refused: OSError | None = None
        """Why descriptors cannot be passed here; then every connection stays where it is."""

    def fileno(self) -> int:
        """The descriptor that is readable when a connection waits."""
        return self._receiver.fileno()

    def close(self) -> None:
        """Close this worker's ends; what waits in the queue stays there."""
        self._sender.close()
        self._receiver.close()

    def give(self, connection: Connection) -> bool:
        """Put a connection into the queue. False: it has to stay.

        The caller forgets it then; the queue holds a descriptor of its own.
        """
        if self.refused is not None or not can_travel(connection):
            return False
        message = json.dumps([connection.listener_name, *connection.peer]).encode()
        descriptor = array.array("i", [connection.fd])
        try:
            self._sender.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor)])
        except OSError as error:
            if error.errno not in _FULL:
                self.refused = error
            return False
        return True

    def take(self) -> tuple[socket.socket, tuple[str, str], str] | None:
        """Return a connection with its peer and the name of its listener, if one waits."""
        try:
            message, ancillary, _, _ = self._receiver.recvmsg(
                _MESSAGE_BYTES, socket.CMSG_SPACE(_DESCRIPTOR_BYTES)
            )
        except OSError:  # a sibling was faster, or no descriptor is left
            return None
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % _DESCRIPTOR_BYTES])
        try:
            name, address, port = json.loads(message)
            return socket.socket(fileno=descriptors[0]), (address, port), name
        except (ValueError, IndexError, OSError):
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            return None


def can_travel(connection: Connection) -> bool:
    """Whether a connection is between two requests and nothing of it is held here."""
    return (
        connection.state is State.IDLE
        and not connection.gone
        and not connection.silent
        and not connection.reader.buffered
        and not connection.output.items
    )
