"""Which view answers, and what holds for it: told to whoever asks through the environ.

A worker puts a callable in the environ as `wsgiserve.name_view`; it is called with the
dotted name of the view and its limit as soon as the URL is resolved, before the view runs.
So a request that hangs, and one whose worker dies, are reported by the view that they were
in, and a view may take longer than others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.core.handlers.base import BaseHandler
from django.http import HttpRequest
from django.urls import ResolverMatch

from django_wsgiserve.config.views import ViewOptions, most_specific
from django_wsgiserve.view_limits import seconds_or_never, timeout_of

NAME_VIEW = "wsgiserve.name_view"
# Far beyond the views of any site. URLconfs made anew for each request must not fill the
# memory with theirs.
_MOST_KNOWN = 4096

Facts = tuple[str, float, Mapping[str, float]]
"""The name, the limit (0.0: TIMEOUT; infinite: none), and those of single HTTP methods."""


def name_views(views: tuple[ViewOptions, ...] = ()) -> None:
    """Have every request's view named, with the limit it has. Calling it again replaces `views`.

    `process_view` of a middleware would need a place in the project's MIDDLEWARE, and a
    middleware before it could answer or hang first; so the one method that resolves is
    wrapped instead.
    """
    original = getattr(BaseHandler.resolve_request, "original", BaseHandler.resolve_request)
    naming: Any = _naming(original, views)
    BaseHandler.resolve_request = naming  # type: ignore[method-assign]


def _naming(
    original: Callable[[BaseHandler, HttpRequest], ResolverMatch], views: tuple[ViewOptions, ...]
) -> Callable[[BaseHandler, HttpRequest], ResolverMatch]:
    # By view and name: one view may be there under several names. Looking up all that is
    # said of a view takes some 20 us, this 0.1.
    known: dict[tuple[object, str], Facts] = {}

    def resolve_request(self: BaseHandler, request: HttpRequest) -> ResolverMatch:
        match = original(self, request)
        name_view = request.META.get(NAME_VIEW)
        if name_view is not None:
            try:
                name, timeout_s, by_method = known[match.func, match.view_name]
            except (KeyError, TypeError):  # TypeError: a view that has no hash
                name, timeout_s, by_method = _learn(known, match, views)
            if by_method:
                timeout_s = by_method.get(request.method or "", timeout_s)
            name_view(name, timeout_s)
        return match

    resolve_request.original = original  # type: ignore[attr-defined]
    return resolve_request


def _learn(
    known: dict[tuple[object, str], Facts], match: ResolverMatch, views: tuple[ViewOptions, ...]
) -> Facts:
    said = most_specific(views, match.namespaces, match.url_name or dotted_name(match))
    if said.timeout_s is not None:
        facts: Facts = (dotted_name(match), seconds_or_never(said.timeout_s), {})
    else:
        of_all = timeout_of(match.func) or 0.0
        facts = (dotted_name(match), of_all, dict(_limits_by_method(match.func)))
    if len(known) >= _MOST_KNOWN:
        known.clear()
    with contextlib.suppress(TypeError):
        known[match.func, match.view_name] = facts
    return facts


def _limits_by_method(view: object) -> Iterator[tuple[str, float]]:
    """Yield the limits of single methods of a class-based view, by the HTTP method.

    A decorator of `dispatch` marks what `as_view` returns. One of `get` marks only `get`,
    and of a view set of the REST framework only the action.
    """
    view_class = getattr(view, "view_class", None) or getattr(view, "cls", None)
    if not isinstance(view_class, type):
        return
    names = getattr(view_class, "http_method_names", ())
    actions: Mapping[str, str] = getattr(view, "actions", None) or {name: name for name in names}
    for method, handler in actions.items():
        limit_s = timeout_of(getattr(view_class, handler, None))
        if limit_s is not None:
            yield method.upper(), limit_s
            # As `View.setup` has it.
            if method == "get" and not hasattr(view_class, actions.get("head", "head")):
                yield "HEAD", limit_s


def dotted_name(match: ResolverMatch) -> str:
    """Return `shop.views.Cart`, for class-based views too, where `func` is a closure."""
    # What Django's own repr and admindocs show; computed when the match is made.
    name: str = getattr(match, "_func_path", "") or match.view_name
    return name
