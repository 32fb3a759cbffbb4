"""Whether a project can be served: loading it, checking it, trying it.

Everything here runs in a forkserver, before its first fork. What it finds wrong is raised
as the operator should read it; the project's own exception is its cause.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core import checks
from django.core.checks import CheckMessage

from django_wsgiserve.config import ServerConfig
from django_wsgiserve.errors import AppLoadError, CheckRefused
from django_wsgiserve.integration.databases import (
    close_all,
    missing_migrations,
    open_connections,
    running_threads,
)
from django_wsgiserve.integration.deadlines import TooLong, limited
from django_wsgiserve.integration.tracebacks import place_of
from django_wsgiserve.integration.views import name_views
from django_wsgiserve.integration.warmup import Visitor, visitor, warm_up
from django_wsgiserve.patching import patching

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


DATABASE_LIMIT_S = 5.0
"""How long is waited for the database to say whether it has tables."""


# A machine may be so slow that no time is left; a timer of 0 s would never ring.
_LEAST_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project that is loaded and may be forked."""

    application: WSGIApplication
    visitor: Visitor
    checks: str
    """What the system checks came to, in a few words."""
    notes: tuple[str, ...]
    """What the operator should know, although it can be served."""


class WarmUpFailed(AppLoadError):
    """A warm-up request was answered with a 5xx, or not at all."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message)
        self.detail = detail


def load_checked(limit_s: float, *, passed_s: float = 0.0) -> tuple[WSGIApplication, str]:
    """Return the application and what the system checks came to.

    Args:
        limit_s: How long it may take since the process was started.
        passed_s: How much of that is over.

    Raises:
        AppLoadError: It cannot be loaded, or not within `limit_s`.
        CheckRefused: The checks found errors.
    """
    try:
        with limited(max(_LEAST_S, limit_s - passed_s)):
            application = load_application()
            return application, run_checks()
    except TooLong as error:
        raise not_loaded_in_time(error, limit_s) from error


def load_application() -> WSGIApplication:
    """Import what `settings.WSGI_APPLICATION` names.

    Raises:
        AppLoadError: It names nothing, or what cannot be imported or called. The cause is
            the project's exception, when there was one.
    """
    path = settings.WSGI_APPLICATION
    if not path:
        guess = f"{_settings_module().rpartition('.')[0]}.wsgi.application"
        raise AppLoadError(
            "settings.WSGI_APPLICATION is not set: there is nothing to serve",
            f'Add to {_settings_module()}: WSGI_APPLICATION = "{guess.lstrip(".")}"',
        )
    module_name, _, attribute = path.rpartition(".")
    named = f"settings.WSGI_APPLICATION = {path!r}{_place_in_settings()}"
    if not module_name:
        raise AppLoadError(
            f"{named} is not a dotted path", 'Write it as "mysite.wsgi.application".'
        )
    try:
        module = import_module(module_name)
    except (Exception, SystemExit) as error:
        raise _not_loaded(named, module_name, error) from error
    try:
        application = getattr(module, attribute)
    except AttributeError:
        raise AppLoadError(
            f"{named}: {module.__file__} defines no {attribute!r}",
            "It usually has the line `application = get_wsgi_application()`.",
        ) from None
    if not callable(application):
        raise AppLoadError(
            f"{named} is {type(application).__name__} {application!r:.80}, which is not callable",
            "An application is called with the environ and start_response (PEP 3333); "
            "this cannot be called.",
        )
    return cast("WSGIApplication", application)


def _not_loaded(named: str, module_name: str, error: BaseException) -> AppLoadError:
    missing = isinstance(error, ModuleNotFoundError) and error.name is not None
    if missing and f"{module_name}.".startswith(f"{cast('ImportError', error).name}."):
        return AppLoadError(
            f"{named}: there is no module {cast('ImportError', error).name!r}",
            "Correct the path, or run the command in the directory that has the module.",
        )
    return not_imported(error)


def not_imported(error: BaseException) -> AppLoadError:
    """Return what is said of a project that raised while it was being imported."""
    place = place_of(error)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = f"Install what provides {error.name!r} in this environment, or correct the import."
    return AppLoadError(
        f"the project cannot be imported: {f'{place}: ' if place else ''}{what}", hint
    )


def not_loaded_in_time(error: TooLong, limit_s: float) -> AppLoadError:
    """Return what is said of a project that was still being imported after `limit_s`."""
    place = place_of(error)
    where = f" and hangs in {place}" if place else ""
    return AppLoadError(
        f"the project has not loaded within {limit_s:g} s{where}",
        "Do on first use what waits for others, or raise BOOT_TIMEOUT "
        "(four fifths of it are for loading).",
    )


def _settings_module() -> str:
    """Return the dotted name of the settings; empty when they were configured in code."""
    return getattr(settings, "SETTINGS_MODULE", None) or os.environ.get(ENVIRONMENT_VARIABLE, "")


def _place_in_settings() -> str:
    """Return ` (settings.py, line 70)`: where WSGI_APPLICATION is set, if that is plain."""
    with contextlib.suppress(ImportError, OSError, SyntaxError, ValueError):
        module = _settings_module()
        spec = find_spec(module) if module else None
        if spec is not None and spec.origin:
            for node in ast.parse(Path(spec.origin).read_text("utf-8")).body:
                targets = node.targets if isinstance(node, ast.Assign) else []
                if any(
                    isinstance(one, ast.Name) and one.id == "WSGI_APPLICATION" for one in targets
                ):
                    return f" ({spec.origin}, line {node.lineno})"
    return ""


def run_checks() -> str:
    """Run Django's system checks; return what they came to, in a few words.

    Raises:
        CheckRefused: There are errors.
        AppLoadError: The project raised: checks import its URLs, and those its views.
    """
    try:
        messages = checks.run_checks()
    except (Exception, SystemExit) as error:
        raise not_imported(error) from error
    loud = [message for message in messages if not message.is_silenced()]
    errors = [message for message in loud if message.level >= checks.ERROR]
    if errors:
        raise CheckRefused(
            f"the system checks found {len(errors)} error{'s' * (len(errors) != 1)}:\n"
            f"{_listed(errors)}",
            "Correct them, or silence those that do not matter here in SILENCED_SYSTEM_CHECKS.",
        )
    warnings = [message for message in loud if message.level >= checks.WARNING]
    if not warnings:
        return "no problems"
    count = f"{len(warnings)} warning{'s' * (len(warnings) != 1)}"
    return f"{count} ({', '.join(sorted({str(one.id) for one in warnings}))})"


def _listed(messages: Collection[CheckMessage]) -> str:
    return "\n".join(f"  {line}" for message in messages for line in str(message).splitlines())


def check_database() -> tuple[str, ...]:
    """Return notes on the database.

    Raises:
        CheckRefused: It has no tables.
    """
    try:
        with limited(DATABASE_LIMIT_S):
            note = missing_migrations()
    except TooLong:
        note = f"the database has not answered within {DATABASE_LIMIT_S:g} s"
    return (f"{note}; serving without it",) if note else ()


def doubtful_settings() -> tuple[str, ...]:
    """Return notes on settings that Django accepts and that are not meant for production."""
    if settings.DEBUG:
        return ("DEBUG is on: every visitor can make an error page show code and settings",)
    return ()


def _hosts_allowed() -> bool:
    """Whether there is a `Host` that Django answers; with DEBUG it answers its own names."""
    return bool(settings.DEBUG or settings.ALLOWED_HOSTS)


def try_out(application: WSGIApplication, config: ServerConfig, *, first: bool) -> tuple[str, ...]:
    """Send the warm-up requests; return notes on those that failed.

    Args:
        application: What to send them to.
        config: `warmup` has the paths, `boot_timeout_s` the time for all of it.
        first: There is nothing better to serve: failures are noted and not raised.

    Raises:
        WarmUpFailed: A request failed, and `first` is false.
    """
    notes = []
    # Half of it, so that the reason is told before the supervisor's patience is at its end.
    limit_s = config.boot_timeout_s / 2 / max(1, len(config.warmup))
    for answer in warm_up(application, config.warmup, visitor(), limit_s):
        nobody_allowed = answer.status == HTTPStatus.BAD_REQUEST and not _hosts_allowed()
        if answer.failed or nobody_allowed:
            how = f"status {answer.status}" if answer.status else answer.detail or "no answer"
            if nobody_allowed:
                how += ", since ALLOWED_HOSTS is empty"
            said = f"the warm-up request of {answer.path!r} failed: {how}"
            if not first:
                raise WarmUpFailed(said, answer.detail)
            last = answer.detail.rstrip().rpartition("\n")[2]
            notes.append(f"{said}{f' ({last})' if last and answer.status else ''}")
    return tuple(notes)


def prepare_fork(known: Collection[int]) -> tuple[str, ...]:
    """Close what must not be shared; return notes on what is open or running all the same.

    Args:
        known: Descriptors that are meant to be inherited.
    """
    close_all()
    shared = [
        f"a connection to {peer} is open across the fork: all workers would share it; "
        "open it on first use, not on import"
        for peer in open_connections(known)
    ]
    threads = running_threads()
    if threads:
        # A greenlet is memory, and memory is copied.
        fate = "run in every worker again" if patching.done else "not exist in the workers"
        shared.append(
            f"{len(threads)} thread{'s' * (len(threads) != 1)} of the project will {fate}:"
            f" {', '.join(threads)}; start them on first use, not on import"
        )
    return tuple(shared)


def leave() -> None:
    """End a worker's part of the project: what it registered with atexit, then its connections.

    A worker ends by `os._exit`, which would skip both.
    """
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    close_all()


__all__ = [
    "Project",
    "WarmUpFailed",
    "check_database",
    "doubtful_settings",
    "leave",
    "load_application",
    "load_checked",
    "name_views",
    "not_imported",
    "prepare_fork",
    "run_checks",
    "try_out",
]
