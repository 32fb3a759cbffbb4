"""Nothing of Django's may be open across a fork: closing it, and looking whether it is.

Two processes that share one database connection read each other's answers. Closing is
done here; that it worked is read from the kernel, not from Django.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import stat
import threading
from collections.abc import Collection, Iterator
from importlib import import_module
from pathlib import Path

from django.core.cache import caches
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from django_wsgiserve.errors import CheckRefused

_SQLITE_MAGIC = b"SQLite format 3\0"
_BLOCKING = {
    "psycopg2": "psycopg 3 does not (pip install 'psycopg[binary]'), nor does psycopg2 after"
    " psycogreen.gevent.patch_psycopg()",
    "MySQLdb": "PyMySQL does not (pymysql.install_as_MySQLdb())",
}

__all__ = [
    "blocking_drivers",
    "close_all",
    "close_databases",
    "missing_migrations",
    "open_connections",
    "running_threads",
]


def close_all() -> None:
    """Close the connections and pools of databases, and the caches, of this thread.

    Connections go back to their pool when closed, so pools come second. Cache objects are
    dropped as well: most keep their connections when told to close.
    """
    opened = connections.all(initialized_only=True)
    for connection in opened:
        connection.close()
    for connection in opened:
        close_pool = getattr(connection, "close_pool", None)
        if close_pool is not None:
            close_pool()
    for alias in list(caches.settings):
        with contextlib.suppress(AttributeError):
            # The handler makes a fresh one, with fresh connections, for who asks next.
            cache = getattr(caches._connections, alias)  # type: ignore[attr-defined]
            cache.close()
            del caches[alias]
    gc.collect()


def close_databases() -> None:
    """Close this thread's connections to databases, whatever they are in the middle of."""
    for connection in connections.all(initialized_only=True):
        with contextlib.suppress(Exception):
            connection.close()


def open_connections(known: Collection[int], process: Path = Path("/proc/self")) -> Iterator[str]:
    """Yield what is still connected, as `127.0.0.1:5432 (descriptor 9)`.

    An open SQLite file counts: it must not be carried across a fork either
    (https://www.sqlite.org/howtocorrupt.html, section 2.6).

    Args:
        known: Descriptors that are meant to be inherited.
        process: This process in procfs; where there is none, nothing is yielded.
    """
    with contextlib.suppress(OSError):
        for entry in sorted((process / "fd").iterdir(), key=lambda path: int(path.name)):
            fd = int(entry.name)
            with contextlib.suppress(OSError):
                name = "" if fd in known else _connected_to(fd, entry)
                if name:
                    yield f"{name} (descriptor {fd})"


def _connected_to(fd: int, entry: Path) -> str:
    """Return the name of the peer or database at the other end, empty when there is none."""
    mode = entry.stat().st_mode
    if stat.S_ISSOCK(mode):
        return _peer(fd)
    if stat.S_ISREG(mode) and os.pread(fd, len(_SQLITE_MAGIC), 0) == _SQLITE_MAGIC:
        return str(entry.readlink())
    return ""


def _peer(fd: int) -> str:
    """Return whom a socket is connected to; empty when it is to nobody, or to ourselves."""
    with socket.socket(fileno=os.dup(fd)) as copy:
        address = copy.getpeername()
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    # An event loop's or library's own socketpair has no name at either end.
    return address.decode(errors="replace") if isinstance(address, bytes) else address


def running_threads() -> list[str]:
    """Return the names of threads that a fork would leave behind."""
    main = threading.main_thread()
    return sorted(thread.name for thread in threading.enumerate() if thread is not main)


def blocking_drivers() -> tuple[str, ...]:
    """Return notes on databases whose driver lets no other greenlet run while it waits.

    Known are the drivers of Django's own backends that do: they wait in C code, and gevent
    replaces what is in Python.
    """
    return tuple(
        f"DATABASES[{alias!r}] uses {name}, which stops all greenlets of a worker while it"
        f" waits for the database; {advice}"
        for alias in connections
        for name, advice in _BLOCKING.items()
        if _driver(alias) == name and not _made_to_wait(name)
    )


def _driver(alias: str) -> str:
    """Return the name of the module that a database is spoken to with."""
    driver = getattr(connections[alias], "Database", None)
    return getattr(driver, "__name__", "").partition(".")[0]


def _made_to_wait(name: str) -> bool:
    """Whether the project has told a driver to wait cooperatively, as psycogreen does."""
    if name != "psycopg2":
        return False
    extensions = import_module("psycopg2.extensions")
    return extensions.get_wait_callback() is not None


def missing_migrations() -> str:
    """Return a note when the default database cannot be asked; empty when all is well.

    Raises:
        CheckRefused: It can, and has no migration applied although there are some: every
            page would fail.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    if connection.vendor == "unknown":
        return ""  # django.db.backends.dummy: a project without a database
    # A Path, for an SQLite database of `startproject`.
    name = str(connection.settings_dict["NAME"])
    exists = _exists(connection)
    try:
        applied = bool(exists and MigrationRecorder(connection).applied_migrations())
    except DatabaseError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"the database {name!r} cannot be reached: {reason}"
    if not applied and MigrationLoader(None).disk_migrations:
        if not exists and not Path(name).absolute().parent.is_dir():
            raise CheckRefused(
                f"the database {name!r} is in a directory that does not exist",
                "Make the directory or correct DATABASES, then run `python manage.py migrate`.",
            )
        state = "has no tables: none of the migrations is applied" if exists else "does not exist"
        raise CheckRefused(f"the database {name!r} {state}", "Run `python manage.py migrate`.")
    return ""


def _exists(connection: BaseDatabaseWrapper) -> bool:
    """Whether there is a database to ask; SQLite would make an empty file to answer."""
    if connection.vendor != "sqlite" or connection.is_in_memory_db():  # type: ignore[attr-defined]
        return True
    name = str(connection.settings_dict["NAME"])
    return name.startswith("file:") or Path(name).exists()
