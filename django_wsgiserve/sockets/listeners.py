"""Listening sockets: made by the supervisor, inherited by every worker.

Knows addresses and their troubles; accepts nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from django_wsgiserve.errors import BindError
from django_wsgiserve.originals import Socket
from django_wsgiserve.sockets.portholders import describe_holder

_UNIX_PREFIX = "unix:"
_FD_PREFIX = "fd://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A socket that listens, and how it is called."""

    socket: Socket
    bind: str
    """As configured."""
    name: str
    """As bound: `127.0.0.1:8000`, `[::1]:8000`, `unix:/run/x.sock`."""
    family: int
    url: str
    server_name: str
    """What WSGI wants in SERVER_NAME."""
    server_port: str
    file_id: tuple[int, int] | None = None
    """Device and inode of the Unix socket file that we made, to remove no one else's."""

    @classmethod
    def from_fd(cls, fd: int, name: str) -> Listener:
        """Take over the inherited descriptor `fd`.

        Raises:
            BindError: It is not a listening stream socket.
        """
        try:
            sock = Socket(fileno=fd)
        except OSError as error:
            raise BindError(
                f"descriptor {fd} (bind {name!r}) is not an open socket: {error.strerror}",
                "Give the number of a listening socket that the parent process passes on.",
            ) from error
        if sock.type != socket.SOCK_STREAM or not _is_listening(sock):
            sock.detach()
            raise BindError(
                f"descriptor {fd} (bind {name!r}) is not a listening stream socket",
                "The parent process must call bind() and listen() on it first.",
            )
        sock.setblocking(False)
        sock.set_inheritable(False)
        return cls.of(sock, name)

    @classmethod
    def of(cls, sock: Socket, bind: str) -> Listener:
        """Describe a bound socket."""
        address = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            path = os.fsdecode(address)
            return cls(
                socket=sock,
                bind=bind,
                name=f"unix:{path}",
                family=sock.family,
                url=f"unix:{path}",
                # PEP 3333 wants both non-empty; a Unix socket has neither.
                server_name="localhost",
                server_port="80",
            )
        host, port = address[0], address[1]
        shown = f"[{host}]" if ":" in host else host
        # An address that means "all" cannot be clicked on.
        click = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, shown)  # noqa: S104 - compared, not bound
        return cls(
            socket=sock,
            bind=bind,
            name=f"{shown}:{port}",
            family=sock.family,
            url=f"http://{click}:{port}/",
            server_name=host,
            server_port=str(port),
        )

    def close(self) -> None:
        """Close this process's descriptor; others may go on listening."""
        self.socket.close()


def open_listeners(binds: Sequence[str], backlog: int, socket_mode: int) -> tuple[Listener, ...]:
    """Listen on every address, or on none.

    Args:
        binds: `host:port`, `[v6]:port`, `unix:path`, `fd://n`; port 0 takes a free one.
        backlog: Connections the kernel may hold before they are accepted.
        socket_mode: Permissions of Unix sockets, such as 0o660.

    Raises:
        BindError: One could not be listened on; the message says which and why.
    """
    opened: list[Listener] = []
    both_families = _binds_both_families(binds)
    try:
        for bind in binds:
            if bind.startswith(_UNIX_PREFIX):
                opened.append(_listen_unix(bind, backlog, socket_mode))
            elif bind.startswith(_FD_PREFIX):
                opened.append(_take_over(bind))
            else:
                opened.append(_listen_tcp(bind, backlog, v6_only=both_families))
    except BaseException:
        for listener in opened:
            remove_socket_file(listener)
            listener.close()
        raise
    return tuple(opened)


def split_host_port(bind: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6]:port`; an empty host is every address.

    Raises:
        BindError: It has another form.
    """
    host, colon, port = bind.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise BindError(
            f"{bind!r} is not an address",
            'Use "127.0.0.1:8000", "[::1]:8000", "unix:/run/app.sock" or "fd://3".',
        )
    return host, int(port)


def remove_socket_file(listener: Listener) -> None:
    """Remove the file of a Unix socket, if it is still the one we made.

    A server that replaced the file with its own keeps it, and sockets taken over from a
    parent (`fd://`) are the parent's to remove.
    """
    if listener.file_id is None:
        return
    path = Path(listener.name.removeprefix(_UNIX_PREFIX))
    with contextlib.suppress(OSError):
        if _file_id(path) == listener.file_id:
            path.unlink()


def _binds_both_families(binds: Sequence[str]) -> bool:
    """Whether IPv4 and IPv6 addresses are both given.

    Only then are IPv6 sockets restricted to IPv6: `[::]:8000` alone is meant to serve
    IPv4 clients too, but would collide with `0.0.0.0:8000` beside it.
    """
    addresses = [bind for bind in binds if not bind.startswith((_UNIX_PREFIX, _FD_PREFIX))]
    v6 = [bind.startswith("[") for bind in addresses]
    return any(v6) and not all(v6)


def _listen_tcp(bind: str, backlog: int, *, v6_only: bool) -> Listener:
    host, port = split_host_port(bind)
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise BindError(
            f"cannot listen on {bind!r}: the host name {host!r} is unknown ({error.strerror})",
            'Use an address of this machine, or "0.0.0.0" for all of them.',
        ) from error
    sock = socket.socket(family, kind, proto)
    try:
        # Without it a restart fails for as long as old connections are in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6_only)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _bind_error(bind, host, port, error) from error
    sock.setblocking(False)
    return Listener.of(sock, bind)


def _bind_error(bind: str, host: str, port: int, error: OSError) -> BindError:
    if error.errno == errno.EADDRINUSE:
        holder = describe_holder(port)
        if holder:
            return BindError(
                f"cannot listen on {bind!r}: port {port} is in use by {holder}",
                "Stop that process, or choose another port with --bind.",
            )
        return BindError(
            f"cannot listen on {bind!r}: port {port} is in use",
            f"See who has it with `ss -ltnp 'sport = :{port}'` (as root), or choose another port "
            "with --bind.",
        )
    if error.errno in (errno.EACCES, errno.EPERM) and port < 1024:
        return BindError(
            f"cannot listen on {bind!r}: permission denied, ports below 1024 need a privilege",
            "Use a port above 1023 behind a proxy, or give the process CAP_NET_BIND_SERVICE "
            "(systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE).",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return BindError(
            f"cannot listen on {bind!r}: {host} is not an address of this machine",
            'See `ip address` for those it has, or use "0.0.0.0" for all of them.',
        )
    return BindError(f"cannot listen on {bind!r}: {error.strerror or error}")


def _listen_unix(bind: str, backlog: int, socket_mode: int) -> Listener:
    path = Path(bind.removeprefix(_UNIX_PREFIX).removeprefix("//")).absolute()
    _clear_way(bind, path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The file gets its rights when bind() makes it: with chmod afterwards there is a
    # moment in which anybody may connect.
    before = os.umask(0o777 & ~socket_mode)
    try:
        sock.bind(str(path))
        # The umask only takes away; an execute bit never comes with bind().
        path.chmod(socket_mode)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        reason = str(error) if error.errno is None else error.strerror
        raise BindError(
            f"cannot listen on {bind!r}: {reason}",
            f"The directory {str(path.parent)!r} must exist and this user must be allowed to "
            "write to it; a path may have at most 107 bytes.",
        ) from error
    finally:
        os.umask(before)
    sock.setblocking(False)
    return dataclasses.replace(Listener.of(sock, bind), file_id=_file_id(path))


def _clear_way(bind: str, path: Path) -> None:
    """Remove a socket that nobody listens on. Refuse what is live, or no socket at all."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise BindError(
            f"cannot listen on {bind!r}: {str(path)!r} exists and is not a socket",
            "Remove it if it is not needed, or choose another path.",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        reason = probe.connect_ex(str(path))
    if reason == errno.ECONNREFUSED:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise BindError(
                f"cannot listen on {bind!r}: a server that is gone has left its socket there, "
                f"and removing it failed: {error.strerror}",
                f"Remove {str(path)!r} as its owner, or choose another path.",
            ) from error
    elif reason in (errno.EACCES, errno.EPERM):
        raise BindError(
            f"cannot listen on {bind!r}: a socket is there that this user may not connect to",
            f"See with `ss -lxp src {path}` (as root) whether a server listens on it; "
            "if none does, remove it.",
        )
    elif reason != errno.ENOENT:
        raise BindError(
            f"cannot listen on {bind!r}: a running server listens there",
            f"See which with `ss -lxp src {path}`, stop it, or choose another path.",
        )


def _take_over(bind: str) -> Listener:
    digits = bind.removeprefix(_FD_PREFIX)
    if not (digits.isascii() and digits.isdigit()):
        raise BindError(f"{bind!r} does not name a descriptor", 'Use a number: "fd://3".')
    return Listener.from_fd(int(digits), bind)


def _is_listening(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _file_id(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino
