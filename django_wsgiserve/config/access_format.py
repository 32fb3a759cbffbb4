"""The language of ACCESS_LOG_FORMAT: which identifiers there are, and what is wrong with a format.

Reads a format into pieces and names mistakes before anything is served. What a piece
evaluates to is in `logs/access_line.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from django_wsgiserve.suggestion import nearest

COMBINED = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
"""The combined format of Apache, and Gunicorn's default."""

FORMAT_NAMES = ("auto", "combined", "json")


@dataclass(frozen=True, slots=True)
class Identifier:
    """One of the letters that `%(…)s` may hold."""

    words: str
    """What people call it; what a wrong name is compared with."""
    is_number: bool = False
    is_untrusted: bool = False
    """The client or the application chooses it, so it has to be escaped."""


IDENTIFIERS = {
    "h": Identifier("remote_address", is_untrusted=True),
    "l": Identifier("identity"),
    "u": Identifier("user", is_untrusted=True),
    "t": Identifier("time"),
    "r": Identifier("request", is_untrusted=True),
    "s": Identifier("status", is_number=True),
    "m": Identifier("method", is_untrusted=True),
    "U": Identifier("path", is_untrusted=True),
    "q": Identifier("query", is_untrusted=True),
    "H": Identifier("protocol", is_untrusted=True),
    "b": Identifier("bytes", is_number=True),
    "B": Identifier("response_length", is_number=True),
    "f": Identifier("referer", is_untrusted=True),
    "a": Identifier("user_agent", is_untrusted=True),
    "T": Identifier("seconds", is_number=True),
    "D": Identifier("microseconds", is_number=True),
    "M": Identifier("milliseconds", is_number=True),
    "L": Identifier("decimal_seconds"),
    "p": Identifier("pid"),
}

_PIECE = re.compile(
    r"%(?:\((?P<name>[^()]*)\)(?P<flags>[-#0 +]*)(?P<width>[0-9]*)"
    r"(?:\.(?P<precision>[0-9]+))?(?P<letter>[A-Za-z])?|(?P<percent>%)|(?P<apache>[>A-Za-z{])?)"
)
_FIELD_NAME = re.compile(r"\{([!#$%&'*+.^_`|~0-9A-Za-z-]+)\}([io])|\{([^{}]+)\}(e)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUMBER_LETTERS = "sdiu"


@dataclass(frozen=True, slots=True)
class FieldPiece:
    """A place of the format that a value goes into."""

    identifier: str
    """A key of `IDENTIFIERS`, or `i`, `o`, `e` for a request field, response field, variable."""
    argument: str
    """The name of the field or variable as written; empty for plain identifiers."""
    conversion: str
    """`%s`, `%-20s`, `%d`: what is left when the name is taken out."""
    precision: int | None
    """At most so many characters of the value, before escaping."""

    @property
    def is_untrusted(self) -> bool:
        """Whether the value has to be escaped."""
        return bool(self.argument) or IDENTIFIERS[self.identifier].is_untrusted


def format_pieces(access_log_format: str) -> tuple[list[str | FieldPiece], list[str]]:
    """Read a format string.

    Returns:
        The pieces in order (literal text with `%%` undone, and fields), and the problems,
        each one sentence for the operator. With problems the pieces are not complete.
    """
    pieces: list[str | FieldPiece] = []
    problems: list[str] = []
    end = 0
    for match in _PIECE.finditer(access_log_format):
        if match.start() > end:
            pieces.append(access_log_format[end : match.start()])
        end = match.end()
        piece = "%" if match["percent"] else _field_piece(match)
        if isinstance(piece, _Problem):
            problems.append(piece.text)
        else:
            pieces.append(piece)
    if end < len(access_log_format):
        pieces.append(access_log_format[end:])
    if _CONTROL.search(access_log_format):
        problems.append("the format has a line break or control character; a request is one line")
    return pieces, problems


@dataclass(frozen=True, slots=True)
class _Problem:
    text: str


def _field_piece(match: re.Match[str]) -> FieldPiece | _Problem:
    name, letter = match["name"], match["letter"]
    if name is None:
        return _Problem(_stray_percent(match))
    field = _FIELD_NAME.fullmatch(name)
    if field is None and name not in IDENTIFIERS:
        return _Problem(f"%({name})s is not an identifier{_suggestion(name, letter)}")
    if letter is None:
        return _Problem(f"%({name}) lacks its conversion; write %({name})s")
    is_number = field is None and IDENTIFIERS[name].is_number
    if letter not in (_NUMBER_LETTERS if is_number else "s"):
        return _Problem(f"%({name}){letter} cannot be written with {letter!r}; write %({name})s")
    precision = match["precision"]
    if is_number and precision is not None:
        return _Problem(f"%({name}) is a number and has no precision; write %({name})s")
    return FieldPiece(
        identifier=(field[2] or field[4]) if field else name,
        argument=(field[1] or field[3]) if field else "",
        conversion=f"%{match['flags']}{match['width']}{letter}",
        precision=int(precision) if precision is not None else None,
    )


def _stray_percent(match: re.Match[str]) -> str:
    letter = match["apache"]
    if letter and letter in IDENTIFIERS:
        return f"%{letter} is Apache's spelling; write %({letter})s"
    return f"the % at character {match.start() + 1} begins nothing; write %% for a percent sign"


def _suggestion(name: str, conversion: str | None) -> str:
    """Return `; did you mean …?` for a name that is nearly one, else what there is."""
    braced = re.match(r"\{([^{}]+)\}", name)
    if braced or "-" in name:
        letter = conversion if conversion in ("i", "o", "e") else "i"
        return f"; did you mean %({{{braced[1] if braced else name}}}{letter})s?"
    bare = name.strip().strip("{}")
    for letter in (bare, bare.swapcase()):
        if letter in IDENTIFIERS:
            return f"; did you mean %({letter})s?"
    letters = {identifier.words: letter for letter, identifier in IDENTIFIERS.items()}
    if near := nearest(bare.lower().replace("-", "_"), letters):
        return f"; did you mean %({letters[near]})s?"
    return f"; there are {' '.join(IDENTIFIERS)} {{Field}}i {{Field}}o {{VARIABLE}}e"


def access_log_problems(access_log_format: str) -> list[str]:
    """Return what is wrong with a value of ACCESS_LOG_FORMAT; empty when nothing is.

    Each problem is one sentence that names the place and, where there is one, the cure.
    """
    if access_log_format in FORMAT_NAMES:
        return []
    if "%" not in access_log_format:
        near = nearest(access_log_format.lower(), FORMAT_NAMES)
        meant = f"; did you mean {near!r}?" if near else ""
        return [
            f"{access_log_format!r} is neither one of {', '.join(FORMAT_NAMES)}"
            f" nor a format with %(…)s identifiers{meant}"
        ]
    return format_pieces(access_log_format)[1]
