"""System checks: what is wrong with the configuration, said by `manage.py check`.

What concerns only one start of the server (its flags, PORT, WEB_CONCURRENCY) is left to
`runprod`, for `manage.py migrate` runs these checks too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error

from django_wsgiserve.settings import resolve_project

TAG = "wsgiserve"


def check_configuration(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Return every problem of WSGISERVE, WSGI_APPLICATION and our variables."""
    return [
        Error(f"{problem.source} {problem.message}", hint=problem.hint, id=problem.check.value)
        for problem in resolve_project().problems
        if problem.check is not None
    ]
