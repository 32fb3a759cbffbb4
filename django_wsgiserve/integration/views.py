"""Which view answers: told to whoever asks through the environ.

A worker puts a callable in the environ as `wsgiserve.name_view`; it is called with the
dotted name of the view as soon as the URL is resolved, before the view runs. So a request
that hangs, and one whose worker dies, are reported by the view that they were in.
"""

from __future__ import annotations

from typing import Any

from django.core.handlers.base import BaseHandler
from django.http import HttpRequest
from django.urls import ResolverMatch

NAME_VIEW = "wsgiserve.name_view"


def name_views() -> None:
    """Have every request's view named. Calling it again changes nothing.

    `process_view` of a middleware would need a place in the project's MIDDLEWARE, and a
    middleware before it could answer or hang first; so the one method that resolves is
    wrapped instead.
    """
    original = BaseHandler.resolve_request
    if getattr(original, "names_views", False):
        return

    def resolve_request(self: BaseHandler, request: HttpRequest) -> Any:
        match = original(self, request)
        name_view = request.META.get(NAME_VIEW)
        if name_view is not None:
            name_view(dotted_name(match))
        return match

    resolve_request.names_views = True  # type: ignore[attr-defined]
    BaseHandler.resolve_request = resolve_request  # type: ignore[method-assign]


def dotted_name(match: ResolverMatch) -> str:
    """Return `shop.views.Cart`, for class-based views too, where `func` is a closure."""
    # What Django's own repr and admindocs show; computed when the match is made.
    name: str = getattr(match, "_func_path", "") or match.view_name
    return name
