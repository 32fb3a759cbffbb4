"""A command that is run under gevent's patches is the same command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from django_wsgiserve.boot import patched_command

REPOSITORY = Path(__file__).parents[2]

PROGRAM = """
import json, os, socket, sys, threading
socket_class = socket.socket.__module__
print(json.dumps({
    "argv": sys.argv[1:],
    "argv0": os.path.abspath(sys.argv[0]) if sys.argv[0] != "-c" else "-c",
    "orig_argv": sys.orig_argv[1:],
    "path0": sys.path[0],
    "name": __name__,
    "main": sys.modules["__main__"].__dict__ is globals(),
    "file": globals().get("__file__"),
    "flags": [sys.flags.isolated, sys.flags.safe_path, sys.flags.optimize, sys.warnoptions],
    "socket": socket_class,
}))
"""

COMMANDS = {
    "script": ["program.py", "runprod", "-c", "x"],
    "script-elsewhere": ["elsewhere/link.py", "a b", ""],
    "flags": ["-O", "-Wdefault", "-X", "utf8", "program.py", "--flag"],
    "after-dashes": ["--", "program.py", "word"],
    "module": ["-m", "program", "runprod"],
    "module-glued": ["-Om" + "program", "runprod"],
    "package": ["-m", "package", "word"],
    "code": ["-c", PROGRAM, "runprod", "-m", "x"],
    "directory": ["package", "runprod"],
    "archive": ["program.pyz", "runprod"],
    "safe-path": ["-P", "program.py", "runprod"],
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with the program in every form."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").touch()
    (tmp_path / "package/__main__.py").write_text(PROGRAM)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/link.py").symlink_to(tmp_path / "program.py")
    with zipfile.ZipFile(tmp_path / "program.pyz", "w") as archive:
        archive.writestr("__main__.py", PROGRAM)
    return tmp_path


def run(directory: Path, command: list[str], **environment: str) -> dict[str, Any]:
    finished = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert not finished.stderr
    seen: dict[str, Any] = json.loads(finished.stdout)
    return seen


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_program_sees_the_same_of_itself_whether_patched_or_not(
    directory: Path, words: list[str]
) -> None:
    command = [sys.executable, *words]
    plain = run(directory, command)
    patched = run(directory, patched_command(command))
    assert plain.pop("socket") == "socket"
    assert patched.pop("socket") == "gevent._socket3"
    assert patched == plain


EARLY = {
    "a class": ("from socket import socket", "early (socket.socket)"),
    "a function": ("from time import sleep as wait", "early (time.sleep)"),
    "a lock": ("import threading\nlock = threading.Lock()", "early (a lock)"),
    "a condition": ("import threading\ndone = threading.Event()", "early (a lock)"),
    "data of a thread": ("import threading\nof = threading.local()", "early (a threading.local)"),
    "TLS": ("from ssl import SSLContext", "early (ssl.SSLContext)"),
}
TELL = (
    "from django_wsgiserve.patching import patching; import json, socket;"
    "print(json.dumps([*patching.too_early, socket.socket.__module__]))"
)


@pytest.mark.parametrize(("text", "told"), EARLY.values(), ids=EARLY)
def test_what_was_imported_too_early_is_named_and_nothing_is_patched(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "early.py").write_text(text)
    (tmp_path / "sitecustomize.py").write_text("import early, logging, urllib.request")
    path = f"{tmp_path}{os.pathsep}{REPOSITORY}"
    seen: Any = run(tmp_path, patched_command([sys.executable, "-c", TELL]), PYTHONPATH=path)
    assert seen == [told, "socket"]


def test_what_asks_the_standard_library_when_it_calls_may_be_imported_early(tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text("import logging, socket, ssl, threading, urllib.request")
    (tmp_path / "sitecustomize.py").write_text("import early")
    path = f"{tmp_path}{os.pathsep}{REPOSITORY}"
    seen: Any = run(tmp_path, patched_command([sys.executable, "-c", TELL]), PYTHONPATH=path)
    assert seen == ["gevent._socket3"]
