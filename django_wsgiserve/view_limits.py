"""What a view says of itself to the server that runs it.

A limit is an attribute of the view. The decorators of others carry it on, for that is what
`functools.wraps` does with attributes; Django's `csrf_exempt` travels in the same way. Who
reads it, and what the operator says instead, is in `integration/views.py`. Nothing here
changes how a view answers, under whatever server.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

from django_wsgiserve.config.values import BadValue
from django_wsgiserve.config.views import view_option

V = TypeVar("V", bound=Callable[..., Any])

_TIMEOUT = "wsgiserve_timeout_s"


def with_timeout(limit: object) -> Callable[[V], V]:
    """Return the decorator that `timeout` in the package is; what it takes is told there.

    Raises:
        ValueError: `limit` is no duration.
    """
    try:
        limit_s = math.inf if limit is None else seconds_or_never(_parsed(limit))
    except BadValue as error:
        raise ValueError(
            f"timeout() {error}; None or 0 is no limit. It is written @timeout({_example(error)})"
        ) from None

    def decorate(view: V) -> V:
        limited = _wrapped(view)
        setattr(limited, _TIMEOUT, limit_s)
        return limited

    return decorate


def _parsed(limit: object) -> float:
    parsed: float = view_option("timeout_s").parse(limit)
    return parsed


def _example(error: BadValue) -> str:
    return f'"{error.example or view_option("timeout_s").example}"'


def seconds_or_never(limit_s: float) -> float:
    """Return a limit as it is judged: settings say 0 where there is none."""
    return limit_s or math.inf


def timeout_of(view: object) -> float | None:
    """Return the limit that a view carries, infinite for none; `None`: it says nothing."""
    while True:
        limit_s = getattr(view, _TIMEOUT, None)
        if isinstance(limit_s, float):
            return limit_s
        if not isinstance(view, functools.partial):
            return None
        view = view.func


def _wrapped(view: V) -> V:
    """Return a view that does the same, and that can be marked: the original may be in use.

    Raises:
        TypeError: It is no view.
    """
    if isinstance(view, type) or not callable(view):
        raise TypeError(
            f"timeout() takes a view, not {view!r}; of a class-based view, decorate dispatch "
            f'(@method_decorator(timeout("5m"), name="dispatch")) or what as_view() returns'
        )
    # Here: the package is imported by processes that have no views. It is what Django asks.
    from asgiref.sync import iscoroutinefunction

    if iscoroutinefunction(view):

        @functools.wraps(view)
        async def limited(*args: Any, **kwargs: Any) -> Any:
            return await view(*args, **kwargs)

    else:

        @functools.wraps(view)
        def limited(*args: Any, **kwargs: Any) -> Any:
            return view(*args, **kwargs)

    if not hasattr(view, "__name__"):  # an instance or a partial: Django would name `limited`
        named: Any = view
        while isinstance(named, functools.partial):
            named = named.func
        if not hasattr(named, "__name__"):
            named = type(named)
        limited.__name__, limited.__qualname__ = named.__name__, named.__qualname__
        limited.__module__ = named.__module__
    return cast("V", limited)
