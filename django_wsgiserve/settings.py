"""Reads what a project's settings say to the server.

The only module that turns `django.conf.settings` into values; what they mean is decided
in `config/resolution.py`.
"""

from __future__ import annotations

import dataclasses
import os
from importlib.util import find_spec

from django.conf import ENVIRONMENT_VARIABLE, settings

from django_wsgiserve.config.command_line import CommandLine
from django_wsgiserve.config.resolution import (
    CheckId,
    Origin,
    Problem,
    Resolution,
    Sources,
    quoted,
    resolve,
)


def resolve_project(command: CommandLine | None = None) -> Resolution:
    """Return the configuration of this project in this environment.

    Problems whose check is in SILENCED_SYSTEM_CHECKS are left out: the operator said
    that the value may be ignored.
    """
    command = command or CommandLine()
    resolution = resolve(
        Sources(
            flags=command.flags,
            environment=os.environ,
            settings=getattr(settings, "WSGISERVE", None),
            problems=(*command.problems, *application_problems()),
            notes=command.notes,
        )
    )
    resolution = dataclasses.replace(
        resolution, problems=(*resolution.problems, *worker_class_problems(resolution))
    )
    silenced = set(settings.SILENCED_SYSTEM_CHECKS)
    heard = tuple(
        problem
        for problem in resolution.problems
        if problem.check is None or problem.check.value not in silenced
    )
    return dataclasses.replace(resolution, problems=heard)


def worker_class_problems(resolution: Resolution) -> tuple[Problem, ...]:
    """Return what the worker class needs and does not find here."""
    if resolution.config.worker_class != "gevent" or find_spec("gevent") is not None:
        return ()
    given = resolution.origins["worker_class"]
    message = "is gevent, which is not installed"
    check = CheckId.BAD_SETTING if given.origin is Origin.SETTINGS else None
    return (Problem(given.name, message, "pip install 'django-wsgiserve[gevent]'", check),)


def settings_module() -> str:
    """Return the dotted name of the settings; empty when they were configured in code."""
    return getattr(settings, "SETTINGS_MODULE", None) or os.environ.get(ENVIRONMENT_VARIABLE, "")


def application_problems() -> tuple[Problem, ...]:
    """Return what is wrong with WSGI_APPLICATION itself, without importing it."""
    name = settings.WSGI_APPLICATION
    package = settings_module().partition(".")[0] or "mysite"
    hint = f"WSGI_APPLICATION = {quoted(f'{package}.wsgi.application')}"
    if not name:
        message = "is not set, so there is nothing to serve"
    elif not isinstance(name, str) or not all(map(str.isidentifier, name.split("."))):
        message = f"must be the dotted path of a WSGI application, not {name!r}"
    elif "." not in name:
        message = f"must name a module and an attribute of it, not {name!r}"
    else:
        return ()
    return (Problem("WSGI_APPLICATION", message, hint, CheckId.NO_APPLICATION),)
