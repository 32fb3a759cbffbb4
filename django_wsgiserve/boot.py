"""What `runprod` hands to the supervisor that it becomes.

The process keeps its id and its descriptors, and starts over without Django: all that
it knows of the project goes through a `Boot`, in a file that only a descriptor names.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django_wsgiserve.config import ServerConfig

# Zero to two are the standard streams. When one of them is closed, the next file that is
# opened gets its number, and everything printed would go there.
LOWEST_FD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """Everything the supervisor starts with.

    Attributes:
        config: The configuration of the first generation.
        argv: The command that loads the project again: of this start, with the same
            interpreter and interpreter flags.
        cwd: The logical working directory, in which `argv` means what it meant.
        notes: Lines for the banner.
        settings_module: `DJANGO_SETTINGS_MODULE`; empty where there is none.
        wsgi_application: `settings.WSGI_APPLICATION`.
        versions: Of what the banner names: `python`, `django`, `wsgiserve`.
    """

    config: ServerConfig
    argv: tuple[str, ...]
    cwd: str
    notes: tuple[str, ...] = ()
    settings_module: str = ""
    wsgi_application: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as an object that `json.dumps` takes."""
        return {
            "config": self.config.to_json(),
            "argv": list(self.argv),
            "cwd": self.cwd,
            "notes": list(self.notes),
            "settings_module": self.settings_module,
            "wsgi_application": self.wsgi_application,
            "versions": dict(self.versions),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Boot:
        """Return what `to_json` wrote."""
        return cls(
            config=ServerConfig.from_json(values["config"]),
            argv=tuple(values["argv"]),
            cwd=values["cwd"],
            notes=tuple(values["notes"]),
            settings_module=values["settings_module"],
            wsgi_application=values["wsgi_application"],
            versions=dict(values["versions"]),
        )

    def to_fd(self) -> int:
        """Return the descriptor of a nameless file with this value, to be inherited."""
        # Arguments that are no UTF-8 hold lone surrogates, which JSON in ASCII keeps.
        document = json.dumps(self.to_json()).encode("ascii")
        with _nameless_file() as file:
            file.write(document)
            file.flush()
            # A duplicate made so is inheritable.
            return fcntl.fcntl(file.fileno(), fcntl.F_DUPFD, LOWEST_FD)

    @classmethod
    def from_fd(cls, fd: int) -> Boot:
        """Return what `to_fd` wrote, and close the descriptor."""
        with os.fdopen(fd, "rb") as file:
            file.seek(0)
            return cls.from_json(json.load(file))


def _nameless_file() -> Any:
    try:
        return os.fdopen(os.memfd_create("wsgiserve-boot"), "w+b")
    except (AttributeError, OSError):  # not Linux, or forbidden by a sandbox
        import tempfile  # here, since it is a MiB that the supervisor would keep

        return tempfile.TemporaryFile()


# The package alone is made importable, from where it is: site-packages, an editable
# installation or a checkout. Its parent stays off sys.path, since in a checkout the
# project lies there too, and a project's `json.py` must not become the supervisor's.
_BOOTSTRAP = """\
import importlib.util, sys
spec = importlib.util.spec_from_file_location(
    "django_wsgiserve", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]])
sys.modules["django_wsgiserve"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from django_wsgiserve.supervisor.main import main
sys.exit(main(int(sys.argv[2])))
"""


def supervisor_command(boot_fd: int) -> list[str]:
    """Return the command that this process becomes the supervisor with.

    Args:
        boot_fd: What `Boot.to_fd` returned.
    """
    package = Path(__file__).resolve().parent
    # -P: with -c the working directory would be the first place to import from.
    flags = [*interpreter_flags(sys.orig_argv), "-P"]
    return [sys.executable, *flags, "-c", _BOOTSTRAP, str(package), str(boot_fd)]


def same_command() -> tuple[str, ...]:
    """Return the command that this process was started with."""
    return (sys.executable, *sys.orig_argv[1:])


# Here, where nothing is imported yet that could escape the patches: what the interpreter
# would have put first on sys.path, for this package may be found only there.
_PATCHED_BOOTSTRAP = """\
import os, sys
loaded = list(sys.modules)
kind, target, first = sys.argv[1:4]
del sys.argv[1:4]
if not sys.flags.safe_path:
    if kind == "module":
        sys.path[0] = os.getcwd()
    elif kind == "script":
        whole = os.path.isdir(target) or target.endswith((".pyz", ".zip"))
        sys.path[0] = target if whole else os.path.dirname(os.path.realpath(target))
from django_wsgiserve.patching import patch, run
patch(loaded)
run(kind, target, int(first))
"""


def patched_command(argv: Sequence[str]) -> list[str]:
    """Return the command that runs the same program under gevent's patches.

    Args:
        argv: As `same_command` returns it.
    """
    program = taken_apart(argv)
    first = len(argv) - 1 - len(program.arguments)
    words = [program.kind, program.target, str(first), *argv[1:]]
    return [argv[0], *program.flags, "-c", _PATCHED_BOOTSTRAP, *words]


@dataclass(frozen=True, slots=True)
class Program:
    """A command line of the interpreter, taken apart.

    Attributes:
        flags: The interpreter's own, without what it runs.
        kind: What it runs: "script", "module" or "code".
        target: The script's path, the module's name, the code; empty for none of them.
        arguments: The program's own.
    """

    flags: tuple[str, ...]
    kind: str
    target: str
    arguments: tuple[str, ...]


def interpreter_flags(argv: Sequence[str]) -> list[str]:
    """Return the interpreter's own flags of a command line, without what it runs."""
    return list(taken_apart(argv).flags)


def taken_apart(argv: Sequence[str]) -> Program:
    """Return the parts of a command line.

    Args:
        argv: As `sys.orig_argv`: the interpreter, its flags, then a script, `-m module`
            or `-c code`.

    Source: Python's manual, "Command line and environment", section 1.1.
    """
    flags: list[str] = []
    kind, target = "script", ""
    words = iter(argv[1:])
    for word in words:
        if word == "--":
            target = next(words, "")
            break
        if word == "-" or not word.startswith("-"):
            target = word
            break
        letters, taker, value = _flag_taken_apart(word)
        if letters:
            flags.append(f"-{letters}")
        if taker in {"-c", "-m"}:
            kind = "code" if taker == "-c" else "module"
            target = value or next(words, "")
            break
        if taker:
            flags += [taker, value or next(words, "")]
    return Program(tuple(flags), kind, target, tuple(words))


def _flag_taken_apart(word: str) -> tuple[str, str, str]:
    """Return a word's plain letters, the flag in it that takes a value, and that value.

    The flag is empty where none does, the value where the next word is it: `-BWerror`
    is `("B", "-W", "error")`.
    """
    if word.startswith("--"):  # --check-hash-based-pycs is the only one there is
        return "", word, ""
    for position, letter in enumerate(word):
        if letter in "cmWX":
            return word[1:position], f"-{letter}", word[position + 1 :]
    return word[1:], "", ""


def is_inherited(fd: int) -> bool:
    """Whether whoever started this process has passed `fd` on to it, to be written to.

    What a process opens for itself is not inheritable (PEP 446).
    """
    try:
        writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        return writable and os.get_inheritable(fd)
    except OSError:
        return False


def flush_standard_streams() -> None:
    """Write out what was printed, where that is possible.

    What the project prints must not decide whether it is served: its reader may be gone,
    its disk full. A stream is None when its descriptor was closed from the beginning.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


def hold_standard_streams() -> None:
    """Lead each standard stream that was closed to nowhere.

    The supervisor would else open its own files under their numbers, and everything
    printed would go there.
    """
    for fd in range(LOWEST_FD):
        try:
            held = os.get_inheritable(fd)
        except OSError:
            held = False
        if not held:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)


def logical_directory(environment: Mapping[str, str], started_as: Sequence[str] = ()) -> str:
    """Return the working directory by the name it was entered with.

    A deploy that points `/srv/site` to the next release and reloads means the link, not
    the directory that it pointed to when the server was started.

    Args:
        environment: `PWD` has the name when a shell entered the directory.
        started_as: The interpreter and the command line. systemd enters a directory and
            says nothing; a virtual environment in it still goes by the right name.
    """
    parents = (str(parent) for word in started_as for parent in Path(word).parents)
    for name in (environment.get("PWD", ""), *parents):
        with contextlib.suppress(OSError):
            if Path(name).is_absolute() and Path(name).samefile("."):
                return name
    return str(Path.cwd())


def initial_environment(proc_self: Path = Path("/proc/self")) -> dict[bytes, bytes]:
    """Return the environment that this process was started with.

    What manage.py and the settings have put into `os.environ` since is left out, as they
    will do so again in each generation: a variable of an `.env` file would otherwise
    be found already set, and keep its old value through every reload.
    """
    try:
        entries = (proc_self / "environ").read_bytes().split(b"\0")
    except OSError:
        return dict(os.environb)
    variables = [entry.partition(b"=") for entry in entries if entry]
    # A process that changes its title writes it over this memory.
    if not variables or any(not name or not equals for name, equals, _ in variables):
        return dict(os.environb)
    return {name: value for name, _, value in reversed(variables)}
