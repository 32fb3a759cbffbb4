"""The flags of `runprod`, made from the configuration table, and what was given.

Values stay text here: a bad one is a `Problem` among the others and not the end of the
command line, so that all that is wrong is said at once.
"""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django_wsgiserve.config.gunicorn_flags import GUNICORN_FLAGS, GunicornFlag, Verdict
from django_wsgiserve.config.options import ADDRESSES, BOOLEAN, PATHS, Row, Topic
from django_wsgiserve.config.resolution import Problem, quoted
from django_wsgiserve.config.table import table
from django_wsgiserve.config.values import BadValue, parse_bind
from django_wsgiserve.suggestion import nearest

_GUNICORN = "gunicorn_flags"
UNKNOWN_WORDS = "unknown_words"
"""Where the parser leaves the words that it knows nothing about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """What a command line says.

    Attributes:
        flags: Values by key in lower case, as text; `None` for a flag not given.
        problems: Words that are not understood, or are but cannot be honoured.
        notes: Flags that nothing was needed for.
    """

    flags: Mapping[str, object] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


class _GunicornAction(argparse.Action):
    """Remembers that a flag of Gunicorn's was given."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Append the flag; what was given with it is of no interest."""
        seen = getattr(namespace, _GUNICORN, None) or []
        setattr(namespace, _GUNICORN, [*seen, option_string])


def add_arguments(parser: ArgumentParser) -> None:
    """Give a parser every flag of the table, and those known from Gunicorn."""
    # `--worker 4` could abbreviate three flags. Argparse would stop there; as an unknown
    # word it is reported with the rest, and with what was meant.
    parser.allow_abbrev = False
    parser.usage = "%(prog)s [options]"
    groups = {topic: parser.add_argument_group(topic.value) for topic in Topic}
    for row in table():
        if not row.option.settings_only:
            _add_row(groups[row.option.topic], row)
    for known in GUNICORN_FLAGS:
        parser.add_argument(
            *known.names,
            action=_GunicornAction,
            nargs=None if known.values == 1 else known.values,
            dest=_GUNICORN,
            help=argparse.SUPPRESS,
        )
    parser.set_defaults(**{UNKNOWN_WORDS: ()})


def _add_row(group: argparse._ArgumentGroup, row: Row) -> None:
    option = row.option
    names = [name for name in (option.short, row.flag, *option.aliases) if name]
    settings: dict[str, Any] = {"dest": row.key.lower(), "help": _help(row).replace("%", "%%")}
    if option.kind is BOOLEAN:
        group.add_argument(*names, action=argparse.BooleanOptionalAction, **settings)
        return
    several = option.kind in {ADDRESSES, PATHS}
    metavar = "|".join(option.choices) if len(option.choices) > 1 else option.kind.metavar
    group.add_argument(*names, action="append" if several else "store", metavar=metavar, **settings)


def _help(row: Row) -> str:
    option = row.option
    facts = [f"default: {row.default_text}"]
    if option.zero:
        facts.append(f"{row.show(0)}: {option.zero}")
    if option.platform_variable:
        facts.append(f"also from {option.platform_variable}")
    return f"{option.help} [{'; '.join(facts)}]"


def read_command_line(options: Mapping[str, Any]) -> CommandLine:
    """Return what parsed options say.

    Args:
        options: The namespace of a parser that `add_arguments` was called with, whose
            `UNKNOWN_WORDS` holds what it did not recognise. Others may be missing.
    """
    by_name = {name: known for known in GUNICORN_FLAGS for name in known.names}
    given: dict[str, GunicornFlag] = {name: by_name[name] for name in options.get(_GUNICORN) or ()}
    return CommandLine(
        flags={
            row.key.lower(): options.get(row.key.lower())
            for row in table()
            if not row.option.settings_only
        },
        problems=(
            *(
                Problem(name, "is not a flag of this server", known.advice)
                for name, known in given.items()
                if known.verdict is Verdict.REFUSED
            ),
            *_unknown(options.get(UNKNOWN_WORDS) or ()),
        ),
        notes=tuple(
            f"{name} is not needed: {known.advice}"
            for name, known in given.items()
            if known.verdict is Verdict.UNNEEDED
        ),
    )


def _unknown(words: Sequence[str]) -> Iterator[Problem]:
    """Yield a problem for each word that no flag took."""
    value_may_follow = False
    for word in words:
        if word.startswith("-") and word != "-":
            name, equals, _ = word.partition("=")
            value_may_follow = not equals
            yield _unknown_flag(name)
        elif value_may_follow:
            value_may_follow = False
        else:
            yield _stray(word)


def _unknown_flag(name: str) -> Problem:
    flags = []
    for row in table():
        if not row.option.settings_only:
            flags += [row.flag, *row.option.aliases]
        elif row.flag == name:
            hint = f"WSGISERVE = {{{quoted(row.key)}: {row.example}}}"
            return Problem(name, "is not a flag: it can only be given in settings.py", hint)
    if meant := nearest(name.replace("_", "-"), flags):
        return Problem(name, "is not a flag", f"Did you mean {meant}?")
    return Problem(name, "is not a flag", "All flags: manage.py runprod --help")


def _stray(word: str) -> Problem:
    """Return what to say of a word that belongs to no flag."""
    address = f"127.0.0.1:{word}" if word.isdigit() else word
    try:
        bind = parse_bind(address) if ":" in address else ""
    except BadValue:
        bind = ""
    if bind:
        return Problem(repr(word), "belongs to no flag", f"--bind {bind}")
    if "." in word or ":" in word:
        return Problem(
            repr(word),
            "belongs to no flag",
            "What is served is settings.WSGI_APPLICATION; leave it out.",
        )
    return Problem(repr(word), "belongs to no flag", "All flags: manage.py runprod --help")
