"""Hello, with a count of the calls that Python sees between `/begin` and `/end`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hello_site.wsgi import BODY, HEADERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_calls = [0]


def _count(_frame: FrameType, event: str, _argument: object) -> None:
    if event in {"call", "c_call"}:
        _calls[0] += 1


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer 14 bytes; `/begin` starts to count, `/end` answers the count so far."""
    path = environ["PATH_INFO"]
    if path == "/begin":
        _calls[0] = 0
        sys.setprofile(_count)
    elif path == "/end":
        sys.setprofile(None)
        body = str(_calls[0]).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    start_response("200 OK", [*HEADERS])
    return [BODY]
