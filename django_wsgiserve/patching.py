"""Running the operator's command under gevent's patches, and whether that is so.

`manage.py` may import Django in its first line, and what Django keeps for each thread
would then be shared by greenlets. So the patches come before it: the forkserver of a
gevent generation is started with a few lines of ours in front of the same command.

Imports as little as it can: what is imported before the patches is not patched.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import ModuleType

# What gevent's patches replace, by the modules of gevent that have the replacements.
_REPLACED = ("os", "queue", "select", "signal", "socket", "ssl", "subprocess", "thread", "time")
# Modules that may hold what is not patched: the standard library asks its modules when it
# calls, and gevent has cured the exceptions; gevent and greenlet know what they do.
_TRUSTED = {*sys.stdlib_module_names, "gevent", "greenlet", "zope", "__main__"}


@dataclass(slots=True)
class Patching:
    """What became of the patches in this process."""

    wanted: bool = False
    """It was started to be patched."""
    done: bool = False
    too_early: tuple[str, ...] = ()
    """Why not: modules, each with what it holds, as `sitecustomize (socket.socket)`."""
    error: str = ""
    """Why not: gevent could not be imported."""


patching = Patching()


def patch(loaded: Collection[str]) -> None:
    """Patch the standard library, unless something cannot be patched any more.

    Args:
        loaded: The modules that were there before this package.
    """
    patching.wanted = True
    try:
        from gevent import monkey
    except ImportError as error:
        patching.error = str(error)
        return
    modules = [module for name in loaded if (module := sys.modules.get(name)) is not None]
    patching.too_early = tuple(_unpatchable(modules))
    if patching.too_early:
        return
    monkey.patch_all()
    patching.done = True


def _unpatchable(modules: Collection[ModuleType]) -> Iterator[str]:
    """Yield the modules that hold what a patch would replace, and what that is."""
    originals, kinds = _originals(), _kinds()
    for module in modules:
        name = getattr(module, "__name__", "")
        if name.partition(".")[0] in _TRUSTED:
            continue
        held = {
            originals.get(id(value)) or kinds.get(type(value), "")
            for value in list(vars(module).values())
        }
        if held := held - {""}:
            yield f"{name} ({', '.join(sorted(held))})"


def _originals() -> dict[int, str]:
    """Return the names of what will be replaced, by `id`."""
    from importlib import import_module

    names = {}
    for source in _REPLACED:
        if source == "ssl" and "ssl" not in sys.modules:
            continue  # nobody can hold what is not there, and it is large
        replacement = import_module(f"gevent.{source}")
        target = import_module(getattr(replacement, "__target__", source))
        for attribute in replacement.__implements__:
            value = getattr(target, attribute, None)
            if callable(value):  # True is everywhere
                names[id(value)] = f"{target.__name__}.{attribute}"
    import select
    import threading

    for module, attributes in ((select, ("epoll", "poll")), (threading, ("Event", "Thread"))):
        for attribute in attributes:
            if value := getattr(module, attribute, None):
                names[id(value)] = f"{module.__name__}.{attribute}"
    return names


def _kinds() -> dict[type, str]:
    """Return what is called by its kind: a lock or a thread's own data, made already.

    A greenlet that waits for such a lock stops the process, for ever; such data is one for
    all greenlets.
    """
    import threading

    kinds = {type(threading.Lock()): "a lock", type(threading.RLock()): "a lock"}
    for kind in (threading.Condition, threading.Event, threading.Semaphore):
        kinds[kind] = "a lock"
    kinds[threading.local] = "a threading.local"
    return kinds


def after_fork() -> None:
    """Make gevent's loop this process's own; called first in a forked one."""
    if patching.done:
        from gevent import reinit

        reinit()


def run(kind: str, target: str, first: int) -> None:
    """Run the operator's command in this process, as the interpreter itself would.

    Args:
        kind: "script", "module" or "code".
        target: The script's path, the module's name, the code.
        first: Where in `sys.argv` the arguments begin; before them is the command.
    """
    import runpy

    command, arguments = sys.argv[: first + 1], sys.argv[first + 1 :]
    sys.orig_argv[:] = [sys.orig_argv[0], *command[1:], *arguments]
    if kind == "script":
        sys.argv[:] = [target, *arguments]
        runpy.run_path(os.path.abspath(target), run_name="__main__")  # noqa: PTH100 - see above
    elif kind == "module":
        sys.argv[:] = [target, *arguments]
        runpy.run_module(target, run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = ["-c", *arguments]
        main = type(sys)("__main__")
        sys.modules["__main__"] = main
        exec(compile(target, "<string>", "exec"), vars(main))  # noqa: S102 - the operator's
