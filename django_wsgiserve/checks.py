"""System checks: what is wrong with the configuration, said by `manage.py check`.

What concerns only one start of the server (its flags, PORT, WEB_CONCURRENCY) is left to
`runprod`, for `manage.py migrate` runs these checks too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error

from django_wsgiserve.config.resolution import CheckId, quoted
from django_wsgiserve.integration.url_names import UrlNames, url_names
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


def check_views(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Return an error for each name in VIEWS that the URLconf does not have."""
    views = resolve_project().config.views
    if not views:
        return []
    known = url_names()
    return [_unknown_view(one.name, known) for one in views if one.name not in known]


def _unknown_view(name: str, known: UrlNames) -> CheckMessage:
    meant = known.meant(name)
    hint = f"Did you mean {quoted(meant)}?"
    if not meant:
        hint = (
            "It takes names as reverse() does. For those of a URLconf that only a middleware "
            f"sets, put {quoted(CheckId.UNKNOWN_VIEW.value)} into SILENCED_SYSTEM_CHECKS."
        )
    return Error(
        f'WSGISERVE["VIEWS"] speaks of {quoted(name)}, and there is no URL and no namespace of '
        "that name",
        hint=hint,
        id=CheckId.UNKNOWN_VIEW.value,
    )
