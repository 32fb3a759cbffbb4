"""A production WSGI server that lives in the Django project it serves.

Importing this package imports nothing else: the supervisor must stay free of
Django, and `INSTALLED_APPS` must stay cheap.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any, TypeVar

    V = TypeVar("V", bound=Callable[..., Any])

__version__ = "0.1.0"
__all__ = ["__version__", "timeout"]


def timeout(limit: str | float | timedelta | None) -> Callable[[V], V]:
    """Return a decorator that gives the requests of a view a limit of their own.

    It holds instead of the setting TIMEOUT, and like that it counts from the start of the
    request. The setting VIEWS, which is the operator's, wins over it. Other servers take
    no notice.

        @timeout("5m")
        def export(request): ...

        @method_decorator(timeout("5m"), name="dispatch")
        class Report(View): ...

        path("report/", timeout("5m")(Report.as_view()))

    Args:
        limit: Seconds, "90s", "5m", "1h 30m" or a `timedelta`; 0 and `None`: no limit.

    Raises:
        ValueError: `limit` is none of these.
    """
    from django_wsgiserve.view_limits import with_timeout

    return with_timeout(limit)
