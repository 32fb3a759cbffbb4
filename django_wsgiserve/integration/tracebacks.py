"""The project's errors without our frames: where it happened, and how it got there."""

from __future__ import annotations

import importlib
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import django

from django_wsgiserve.integration.deadlines import TooLong

_OURS = str(Path(__file__).resolve().parents[1])
_DJANGO = str(Path(django.__file__).resolve().parent)
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
# What is compiled from Cython gives the path of its source where it was built.
_SWITCHING = ("src/gevent/", "src/greenlet/")
_IMPORTLIB = str(Path(importlib.__file__).resolve().parent)


def is_machinery(filename: str) -> bool:
    """Whether a frame belongs to the import system, to this package or to gevent's C code."""
    return filename.startswith(("<frozen importlib", _IMPORTLIB, _OURS, *_SWITCHING))


def place_of(error: BaseException) -> str:
    """Return `/srv/site/urls.py, line 3`: the last line of the project that ran.

    For a syntax error it is the line that cannot be parsed. Empty when no line of the
    project ran.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not is_machinery(frame.filename) and not _is_given(frame.filename)
    ]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _is_given(filename: str) -> bool:
    """Whether a frame is Django's or Python's: where the project has led to, not been.

    Python's is what gevent has put in its place.
    """
    if "/site-packages/gevent/" in filename:
        return True
    if "site-packages" in filename or "dist-packages" in filename:
        return filename.startswith(_DJANGO)
    return filename.startswith((_DJANGO, _STANDARD_LIBRARY))


def project_traceback(error: BaseException) -> str:
    """Return the traceback as `traceback` formats it, without frames of the machinery."""
    summary = traceback.TracebackException.from_exception(error)
    for part in _chain(summary):
        part.stack = traceback.StackSummary.from_list(
            [frame for frame in part.stack if not is_machinery(frame.filename)]
        )
    lines = list(summary.format())
    if isinstance(error, TooLong):
        lines.pop()  # its name is ours, and says no more than the message does
    return "".join(lines)


def _chain(
    summary: traceback.TracebackException,
) -> Iterator[traceback.TracebackException]:
    yield summary
    for earlier in (summary.__cause__, summary.__context__):
        if earlier is not None:
            yield from _chain(earlier)
