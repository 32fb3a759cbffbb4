r"""What a line of the access log says: combined, JSON, or a format string as Gunicorn has them.

A format is compiled once, when the log is opened, into one function that computes what
the format names and nothing else. Where the bytes of a line go is decided elsewhere
(`targets.py`).

Every value that a client or the application can choose is escaped the way Apache does it:
`"` and `\` get a backslash, everything outside printable ASCII becomes `\xHH`. So
an event is always exactly one line, and a quoted value ends where the format says it does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from django_wsgiserve.config.access_format import COMBINED, FieldPiece, format_pieces
from django_wsgiserve.errors import ConfigError
from django_wsgiserve.events import RequestFinished
from django_wsgiserve.logs.access_json import NO_FIELDS, json_observer, remote_user
from django_wsgiserve.logs.times import COMMON_LOG_TIMES

T = TypeVar("T")
LineFunction = Callable[[RequestFinished], str]
"""Takes the event, returns the line with its line feed; ASCII but for the format's own text."""

_UNSAFE = re.compile(r"[^ !#-\[\]-~]")


def escape(value: str) -> str:
    r"""Return `value` as printable ASCII in which quotes and backslashes are escaped.

    Characters up to U+00FF become one `\xHH` (a byte of the request, read as Latin-1);
    those above, which only the application can have put there, their UTF-8 bytes.
    """
    return _UNSAFE.sub(_escape_character, value)


def _escape_character(match: re.Match[str]) -> str:
    character = match[0]
    if character in '"\\':
        return "\\" + character
    if character <= "\xff":
        return f"\\x{ord(character):02x}"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))


def _decoded_path(path: str) -> str:
    return unquote_to_bytes(path.encode("latin-1", "replace")).decode("latin-1")


def _response_field(headers: list[tuple[str, str]], lower_name: str) -> str:
    values = [value for name, value in headers if name.lower() == lower_name]
    return ", ".join(values) if values else "-"


def _environ_text(environ: Mapping[str, Any] | None, name: str) -> str:
    if environ is None:
        return "-"
    for spelling in (name, name.upper(), name.lower()):
        if spelling in environ:
            try:
                return str(environ[spelling])
            except Exception:  # __str__ is the application's; the line must be written
                return "-"
    return "-"


# Expressions of the generated function, by identifier; whether a value has to be escaped
# is said in config/access_format.py.
_EXPRESSIONS = {
    "h": 'event.peer or "-"',
    "l": '"-"',
    "u": (
        '(remote_user(event, fields) if "authorization" in fields'
        ' or (event.environ is not None and "REMOTE_USER" in event.environ) else "-")'
    ),
    "t": "common_log_times[event.started_at_s // 1]",
    "r": 'event.request_line or "-"',
    "s": "event.status",
    "m": '"-" if request is None else request.method',
    "U": (
        '"-" if request is None else request.path if "%" not in request.path'
        " else decoded_path(request.path)"
    ),
    "q": '"-" if request is None else request.query',
    "H": '"-" if request is None else request.version',
    "b": "event.sent_bytes",
    "B": "event.sent_bytes",
    "f": 'fields["referer"] if "referer" in fields else "-"',
    "a": 'fields["user-agent"] if "user-agent" in fields else "-"',
    # Cut off from whole microseconds: 1.001 * 1000 is less than 1001.
    "T": "round(event.duration_s * 1000000) // 1000000",
    "D": "round(event.duration_s * 1000000)",
    "M": "round(event.duration_s * 1000000) // 1000",
    "L": '"%.6f" % event.duration_s',
    "p": "process_id",
}


def _expression(piece: FieldPiece) -> str:
    """Return the source that computes the value of `piece`, before escaping."""
    if not piece.argument:
        return _EXPRESSIONS[piece.identifier]
    name = piece.argument.lower()
    if piece.identifier == "i":
        return f'fields[{name!r}] if {name!r} in fields else "-"'
    if piece.identifier == "o":
        return f"response_field(event.headers, {name!r})"
    return f"environ_text(event.environ, {piece.argument!r})"


def _source(pieces: list[str | FieldPiece]) -> str:
    """Return the source of the function that writes the line of an event.

    All values from outside are looked at together first: one check of the whole costs
    less than one each, and nearly no line has anything to escape.
    """
    values: list[str] = []
    untrusted: list[str] = []
    body: list[str] = []
    template = ""
    for piece in pieces:
        if isinstance(piece, str):
            template += piece.replace("%", "%%")
            continue
        name = f"value_{len(values)}"
        expression = _expression(piece)
        if piece.precision is not None:  # before escaping: a cut must not halve an escape
            expression = f"({expression})[:{piece.precision}]"
        body.append(f"    {name} = {expression}")
        if piece.is_untrusted:
            untrusted.append(name)
        values.append(name)
        template += piece.conversion
    if untrusted:
        body.append(f"    outside = {' + '.join(untrusted)}")
        # `!a` escapes backslashes and all that is not printable ASCII; it is not a call.
        body.append("""    if '"' in outside or f"{outside!a}" != f"'{outside}'":""")
        body.extend(f"        {name} = escape({name})" for name in untrusted)
    # A literal % a tuple of names is compiled like an f-string where it can be.
    body.append(f"    return write({template + chr(10)!r} % ({''.join(f'{v}, ' for v in values)}))")
    return "\n".join(
        (
            "def observe(event):",
            "    request = event.request",
            "    fields = no_fields if request is None else request.headers",
            *body,
        )
    )


def compile_observer(
    access_log_format: str, write: Callable[[str], T], *, on_terminal: bool = False
) -> Callable[[RequestFinished], T]:
    """Return the function that gives `write` the line of an event in `access_log_format`.

    Args:
        access_log_format: "combined", "json", "auto" or a string of `%(…)s` identifiers.
        write: Takes the line with its line feed; ASCII but for the format's own text. What
            it returns is returned.
        on_terminal: What "auto" is decided by: combined on a terminal, JSON elsewhere.

    Raises:
        ConfigError: The format has mistakes; the message names all of them.
    """
    if access_log_format == "auto":
        access_log_format = "combined" if on_terminal else "json"
    if access_log_format == "json":
        return json_observer(write)
    if access_log_format == "combined":
        access_log_format = COMBINED
    pieces, problems = format_pieces(access_log_format)
    if problems:
        raise ConfigError("ACCESS_LOG_FORMAT: " + "; ".join(problems))
    namespace: dict[str, Any] = {
        "common_log_times": COMMON_LOG_TIMES,
        "decoded_path": _decoded_path,
        "environ_text": _environ_text,
        "escape": escape,
        "no_fields": NO_FIELDS,
        "process_id": f"<{os.getpid()}>",
        "remote_user": remote_user,
        "response_field": _response_field,
        "write": write,
    }
    # The source holds nothing of the format but repr() of its literals and names.
    exec(_source(pieces), namespace)  # noqa: S102  # as dataclasses do: no call per identifier
    observer: Callable[[RequestFinished], T] = namespace["observe"]
    return observer


def compile_format(access_log_format: str, *, on_terminal: bool = False) -> LineFunction:
    """Return the function that returns a line in `access_log_format`, as `compile_observer`."""
    return compile_observer(access_log_format, str, on_terminal=on_terminal)


class Atoms(dict[str, Any]):
    """What a log record of the access log has as its `args`, as Gunicorn's records do.

    Values are escaped, so that `format % atoms` is safe. A name that is not there reads "-".
    """

    def __missing__(self, name: str) -> str:
        lower = name.lower()
        return str(self[lower]) if lower != name and lower in self else "-"


def _atom_functions() -> dict[str, Callable[..., Any]]:
    return {identifier: compile_format(f"%({identifier})s") for identifier in _EXPRESSIONS}


class AtomsFactory:
    """Makes the `args` of log records: all plain identifiers, the headers, and named variables."""

    def __init__(self, access_log_format: str) -> None:
        pieces, _ = format_pieces(access_log_format)
        self._functions = _atom_functions()
        self._variables = [
            piece.argument
            for piece in pieces
            if isinstance(piece, FieldPiece) and piece.identifier == "e"
        ]

    def atoms(self, event: RequestFinished) -> Atoms:
        """Return what `%(…)s` of any format may name for this event."""
        atoms = Atoms((name, line(event)[:-1]) for name, line in self._functions.items())
        for name in ("s", "b", "B", "T", "D", "M"):
            atoms[name] = int(atoms[name])
        if event.request is not None:
            for name, value in event.request.headers.items():
                atoms[f"{{{name}}}i"] = escape(value)
        for name in {name.lower() for name, _ in event.headers}:
            atoms[f"{{{name}}}o"] = escape(_response_field(event.headers, name))
        for name in self._variables:
            atoms[f"{{{name.lower()}}}e"] = escape(_environ_text(event.environ, name))
        return atoms
