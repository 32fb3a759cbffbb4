r"""What a line of the access log says: combined, JSON, or a format string as Gunicorn has them.

A format is compiled once, when the log is opened, into one function that computes what
the format names and nothing else. Where the bytes of a line go is decided elsewhere
(`log_targets.py`).

Every value that a client or the application can choose is escaped the way Apache does it:
`"` and `\` get a backslash, everything outside printable ASCII becomes `\xHH`. So
an event is always exactly one line, and a quoted value ends where the format says it does.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from django_wsgiserve.access_format import COMBINED, FieldPiece, format_pieces
from django_wsgiserve.errors import ConfigError
from django_wsgiserve.events import RequestFinished

LineFunction = Callable[[RequestFinished], str]
"""Takes the event, returns the line with its line feed; ASCII but for the format's own text."""

LOGGER_NAME = "django_wsgiserve.access"

_NO_FIELDS: dict[str, str] = {}
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_KEPT_SECONDS = 64
_encode_json = json.JSONEncoder(separators=(",", ":"), default=repr).encode


class _SecondTexts(dict[float, str]):
    """The text of a second, made once. A plain subscript when it is there.

    Several are kept because requests that began in different seconds end in turn.
    """

    def __init__(self, render: Callable[[float], str]) -> None:
        self._render = render

    def __missing__(self, second: float) -> str:
        if len(self) >= _KEPT_SECONDS:
            self.clear()
        text = self[second] = self._render(second)
        return text


def _common_log_time(second: float) -> str:
    """Return `[22/Nov/2026:16:22:51 +0000]`, local time. Not strftime: %b follows the locale."""
    at = time.localtime(second)
    offset_min = at.tm_gmtoff // 60
    sign = "-" if offset_min < 0 else "+"
    hours, minutes = divmod(abs(offset_min), 60)
    return (
        f"[{at.tm_mday:02d}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}:{at.tm_hour:02d}:"
        f"{at.tm_min:02d}:{at.tm_sec:02d} {sign}{hours:02d}{minutes:02d}]"
    )


def _iso_second(second: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


_COMMON_LOG_TIMES = _SecondTexts(_common_log_time)
_ISO_SECONDS = _SecondTexts(_iso_second)


def iso_time(at_s: float) -> str:
    """Return Unix time `at_s` as `2026-11-22T16:22:51.123Z`."""
    return f"{_ISO_SECONDS[at_s // 1]}.{min(round(at_s % 1 * 1000), 999):03d}Z"


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


def _remote_user(event: RequestFinished, fields: Mapping[str, str]) -> str:
    """Return who asked: `REMOTE_USER` if the application set it, else the name in Basic.

    The latter is a claim of the client, as in Apache's log: what it is worth the status says.
    """
    if event.environ is not None:
        user = event.environ.get("REMOTE_USER")
        if isinstance(user, str) and user:
            return user
    scheme, _, credentials = fields.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "-"
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True)
    except (binascii.Error, ValueError):
        return "-"
    return decoded.partition(b":")[0].decode("latin-1") or "-"


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
# is said in access_format.py.
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
    """Return the source of the function that writes a line.

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
        body.append(
            "    if not outside.isascii() or not outside.isprintable()"
            " or '\"' in outside or '\\\\' in outside:"
        )
        body.extend(f"        {name} = escape({name})" for name in untrusted)
    # A literal % a tuple of names is compiled like an f-string where it can be.
    body.append(f"    return {template + chr(10)!r} % ({''.join(f'{v}, ' for v in values)})")
    return "\n".join(
        (
            "def access_line(event):",
            "    request = event.request",
            "    fields = no_fields if request is None else request.headers",
            *body,
        )
    )


def compile_format(access_log_format: str, *, on_terminal: bool = False) -> LineFunction:
    """Return the function that writes a line in `access_log_format`.

    Args:
        access_log_format: "combined", "json", "auto" or a string of `%(…)s` identifiers.
        on_terminal: What "auto" is decided by: combined on a terminal, JSON elsewhere.

    Raises:
        ConfigError: The format has mistakes; the message names all of them.
    """
    if access_log_format == "auto":
        access_log_format = "combined" if on_terminal else "json"
    if access_log_format == "json":
        return json_line
    if access_log_format == "combined":
        access_log_format = COMBINED
    pieces, problems = format_pieces(access_log_format)
    if problems:
        raise ConfigError("ACCESS_LOG_FORMAT: " + "; ".join(problems))
    namespace: dict[str, Any] = {
        "common_log_times": _COMMON_LOG_TIMES,
        "decoded_path": _decoded_path,
        "environ_text": _environ_text,
        "escape": escape,
        "no_fields": _NO_FIELDS,
        "process_id": f"<{os.getpid()}>",
        "remote_user": _remote_user,
        "response_field": _response_field,
    }
    # The source holds nothing of the format but repr() of its literals and names.
    exec(_source(pieces), namespace)  # noqa: S102  # as dataclasses do: no call per identifier
    line_function: LineFunction = namespace["access_line"]
    return line_function


def access_fields(event: RequestFinished) -> dict[str, Any]:
    """Return the event as named values: the fields of a JSON line and of a log record.

    Names and meanings are a promise, see docs/reference/access-log.md. `None` where
    there is nothing to say. Text is as the client sent it, read as UTF-8 where it is.
    """
    request = event.request
    fields = _NO_FIELDS if request is None else request.headers
    user = _remote_user(event, fields)
    return {
        "peer": event.peer or None,
        "user": None if user == "-" else _as_utf8(user),
        "method": request.method if request else None,
        "host": _as_utf8(request.authority) if request else None,
        "path": _as_utf8(request.path) if request else None,
        "query": _as_utf8(request.query) if request else None,
        "protocol": request.version if request else None,
        "request_line": None if request else _as_utf8(event.request_line),
        "status": event.status,
        "sent_bytes": event.sent_bytes,
        "duration_ms": round(event.duration_s * 1000, 3),
        "aborted": event.aborted,
        "referer": _as_utf8(fields["referer"]) if "referer" in fields else None,
        "user_agent": _as_utf8(fields["user-agent"]) if "user-agent" in fields else None,
    }


def _as_utf8(value: str) -> str:
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


_process_id = os.getpid()


def _remember_process_id() -> None:
    """Ask once a process: glibc keeps no copy, so each `getpid` is a system call."""
    global _process_id
    _process_id = os.getpid()


os.register_at_fork(after_in_child=_remember_process_id)


def json_line(event: RequestFinished) -> str:
    """Return the event as one JSON object on one line, ASCII only."""
    return (
        f'{{"time":"{iso_time(event.started_at_s)}","logger":"{LOGGER_NAME}","pid":{_process_id},'
        f"{_encode_json(access_fields(event))[1:]}\n"
    )


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
