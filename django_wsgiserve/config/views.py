"""VIEWS: what the operator lays down for single views, by URL name or namespace.

A row of `ViewOptions` is all there is to one of its keys, as a row of `ServerConfig` is to
a setting. Only the form is judged here; whether there is such a name is known to the
URLconf, and `checks.py` asks it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from django_wsgiserve.config.options import (
    DURATION,
    LONGEST_S,
    Option,
    Row,
    Topic,
    row_or_none,
)
from django_wsgiserve.config.values import BadValue, Kind
from django_wsgiserve.suggestion import nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewOptions:
    """One entry of VIEWS; `None` is what it says nothing of.

    `name` is a URL name with its namespaces (`reports:export`), or a namespace (`admin`),
    for everything below it.
    """

    name: str
    timeout_s: float | None = row_or_none(
        Option(
            DURATION,
            Topic.VIEWS,
            "How long a request of these views may run, from its start, whatever TIMEOUT and "
            "their decorators say.",
            minimum=0,
            maximum=LONGEST_S,
            zero="no deadline",
            example="5m",
        )
    )

    @property
    def given(self) -> dict[str, str]:
        """What it says, as people would write it, by key."""
        return {
            row.key: row.show(value)
            for row in view_table()
            if (value := getattr(self, row.field)) is not None
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ViewOptions:
        """Return what `dataclasses.asdict` made of one, of this version or another."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


@cache
def view_table() -> tuple[Row, ...]:
    """Return the row of each key that an entry of VIEWS may have."""
    return tuple(
        Row(field.name, field.default, field.metadata["option"])
        for field in dataclasses.fields(ViewOptions)
        if "option" in field.metadata
    )


def view_option(field: str) -> Option[Any]:
    """Return the option of a field of `ViewOptions`, for whoever reads such a value elsewhere."""
    return next(row.option for row in view_table() if row.field == field)


_EXAMPLE = '{"reports:export": {"TIMEOUT": "5m"}}'


def parse_views(value: object) -> tuple[ViewOptions, ...]:
    """Return the entries of a mapping of names to dicts, or of its text as JSON.

    Raises:
        BadValue: It is none, or entries of it are wrong; `parts` has these, all of them.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _no_mapping(value) from None
    if not isinstance(value, Mapping):
        raise _no_mapping(value)
    entries: list[ViewOptions] = []
    wrong: list[tuple[str, BadValue]] = []
    for name, options in value.items():
        try:
            entries.append(_entry(name, options))
        except BadValue as error:
            wrong += [(f"[{_literal(name)}]{where}", part) for where, part in error.all_parts]
    if wrong:
        raise BadValue("; ".join(f"{where} {part}" for where, part in wrong), parts=wrong)
    return tuple(entries)


def _no_mapping(value: object) -> BadValue:
    return BadValue(f"must be a dict by URL name or namespace, not {value!r}", _EXAMPLE)


def _entry(name: object, options: object) -> ViewOptions:
    if not isinstance(name, str) or not name:
        raise BadValue("must have the name of a URL or a namespace before the colon", _EXAMPLE)
    if not isinstance(options, Mapping):
        # Most likely the one thing there is to say of a view, without saying which it is.
        shown = options if isinstance(options, int | str) and options else "5m"
        raise BadValue(f"must be a dict, not {options!r}", _line(name, "TIMEOUT", shown))
    rows = {row.key: row for row in view_table()}
    values: dict[str, Any] = {}
    wrong: list[tuple[str, BadValue]] = []
    for key, value in options.items():
        row = rows.get(key)
        try:
            if row is None:
                raise _unknown_key(name, key, value, rows)
            values[row.field] = row.option.parse(value)
        except BadValue as error:
            example = error.example if row is None else ""
            if row is not None:
                example = _line(name, row.key, error.example or row.example)
            wrong.append((f"[{_literal(key)}]", BadValue(str(error), example)))
    if wrong:
        raise BadValue("has members that are wrong", parts=wrong)
    return ViewOptions(name=name, **values)


def _unknown_key(name: str, key: object, value: object, rows: Iterable[str]) -> BadValue:
    known = list(rows)
    meant = nearest(str(key).upper().replace("-", "_"), known)
    said = f"is nothing that can be said of a view; did you mean {json.dumps(meant)}?"
    if not meant:
        said = f"is nothing that can be said of a view; there is {', '.join(known)}"
    return BadValue(said, _line(name, meant, value) if meant else _EXAMPLE)


def _line(name: str, key: str, value: object) -> str:
    return f"{{{_literal(name)}: {{{_literal(key)}: {_literal(value)}}}}}"


def _literal(value: object) -> str:
    """Return a Python literal, with double quotes as settings files have them."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def show_views(views: tuple[ViewOptions, ...]) -> str:
    """Return entries as the dict they come from, which is JSON too."""
    return json.dumps({one.name: one.given for one in views}, ensure_ascii=False)


def most_specific(views: tuple[ViewOptions, ...], namespaces: list[str], name: str) -> ViewOptions:
    """Return all that is said of a view: each key by the most specific entry that has it.

    Args:
        views: The entries.
        namespaces: Those that the view is in, the outermost first.
        name: Its URL name, without them.
    """
    by_name = {one.name: one for one in views}
    said: dict[str, Any] = {}
    for entry in filter(None, map(by_name.get, _names_of(namespaces, name))):
        for row in view_table():
            if (value := getattr(entry, row.field)) is not None:
                said.setdefault(row.field, value)
    return ViewOptions(name=":".join((*namespaces, name)), **said)


def _names_of(namespaces: list[str], name: str) -> Iterator[str]:
    """Yield what a view can be found by, the most specific first: `a:b:name`, `a:b`, `a`."""
    parts = [*namespaces, name]
    for length in range(len(parts), 0, -1):
        yield ":".join(parts[:length])


VIEWS: Kind[tuple[ViewOptions, ...]] = Kind(
    "views",
    "VIEWS",
    "a dict of dicts, by URL name (`reports:export`) or namespace (`admin`: all that is below it)",
    parse_views,
    show_views,
)
