"""A terminal in a copy of the example project, in which the server runs beside."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import REPOSITORY

READY_S = 60.0
COMMAND_S = 60.0
ENDED_S = 45.0

# Flags with which `runprod` says something and ends.
TALKING = ("--check-config", "--print-config", "--help")


class Shell:
    """Runs commands as a reader of the documentation would, one after the other."""

    def __init__(self, directory: Path) -> None:
        """Copy the example project to `directory`, which must be empty."""
        ignored = shutil.ignore_patterns("__pycache__", "*.sqlite3*")
        shutil.copytree(
            REPOSITORY / "example_project", directory / "example_project", ignore=ignored
        )
        shutil.copy(REPOSITORY / "manage.py", directory)
        self._directory = directory
        self._log = directory / "server.log"
        self._server: subprocess.Popen[bytes] | None = None
        self._address = ""
        self._environment = {
            "HOME": str(directory),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(REPOSITORY),
            "WSGISERVE_BIND": "127.0.0.1:0",
        }
        self.run("python manage.py open_library")

    def run(self, command: str) -> None:
        """Run a command to its end; one that starts the server, until that is ready.

        Raises:
            AssertionError: It failed, or took too long.
        """
        if "runprod" in command and not any(flag in command for flag in TALKING):
            self._start(command)
            return
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", self._here(command)],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_S,
            text=True,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{self._server_log()}"

    def end(self) -> None:
        """Stop the server, when one runs.

        Raises:
            AssertionError: It did not end with exit code 0.
        """
        if self._server is None:
            return
        try:
            if self._server.poll() is None:
                self._server.send_signal(signal.SIGTERM)
            assert self._server.wait(ENDED_S) == 0, self._server_log()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()

    def _start(self, command: str) -> None:
        assert self._server is None, "a page has one server"
        read_end, write_end = os.pipe()
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                ["/bin/bash", "-c", f"exec {command} --ready-fd {write_end}"],
                cwd=self._directory,
                env=self._environment,
                pass_fds=[write_end],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        os.close(write_end)  # ours: so that the server's death ends the read below
        with os.fdopen(read_end, "rb") as pipe:
            readable, _, _ = select.select([pipe], [], [], READY_S)
            line = pipe.readline() if readable else b""
        assert line, f"$ {command}\n{self._server_log()}"
        self._address = json.loads(line)["addresses"][0]["name"]

    def _here(self, command: str) -> str:
        """Return the command with the address that this server got, not the usual one."""
        return command.replace("127.0.0.1:8000", self._address or "127.0.0.1:8000")

    def _server_log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""
