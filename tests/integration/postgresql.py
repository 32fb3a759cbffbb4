"""A PostgreSQL for the tests that need one: of the environment, or started here."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote


def postgresql_command(name: str) -> str | None:
    """Return the path of one of PostgreSQL's commands. Debian keeps them off the PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(installed[-1]) if installed else None)


class Cluster:
    """A PostgreSQL of this test run's own, on a Unix socket in a directory of its own."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="wsgiserve-pg-"))
        self._as_user: tuple[str, ...] = ()
        if os.geteuid() == 0:  # initdb refuses to be root
            self._as_user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
            shutil.chown(self.directory, "postgres")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._run("initdb", "--auth=trust", "--username=tester", "--no-sync", self._data)
        settings = f"-k {self.directory} -p {self.port} -c listen_addresses= -c fsync=off"
        self._run("pg_ctl", "--wait", "-D", self._data, "-l", self._log, "-o", settings, "start")

    @property
    def url(self) -> str:
        """What DATABASE_URL has to say to use it."""
        return f"postgres://tester@{quote(str(self.directory), safe='')}:{self.port}/postgres"

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    @property
    def _log(self) -> str:
        return str(self.directory / "log")

    def close(self) -> None:
        """Stop it, and remove what it wrote."""
        self._run("pg_ctl", "--wait", "-D", self._data, "-m", "immediate", "stop")
        shutil.rmtree(self.directory)

    def _run(self, *command: str) -> None:
        name, *arguments = command
        subprocess.run(
            [*self._as_user, postgresql_command(name) or name, *arguments],
            cwd="/",
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
