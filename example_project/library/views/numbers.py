"""Numbers that come in a query string."""

from __future__ import annotations

import math

from django.core.exceptions import BadRequest
from django.http import HttpRequest


def number_from(request: HttpRequest, name: str, *, default: float, most: float) -> float:
    """Return the number that the query gives for `name`.

    Raises:
        BadRequest: It is no number, or not between 0 and `most`. Django answers 400.
    """
    text = request.GET.get(name, str(default))
    try:
        number = float(text)
    except ValueError:
        raise BadRequest(f"{name}={text!r} is not a number") from None
    if not math.isfinite(number) or not 0 <= number <= most:
        raise BadRequest(f"{name}={text!r} is not between 0 and {most:g}")
    return number
