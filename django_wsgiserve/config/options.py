"""What a row of the configuration table can say about its setting.

The kinds of values there are, the bounds and choices on top of them, and the names
under which a setting is given. The rows themselves are in `table.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from django_wsgiserve.config import values as read
from django_wsgiserve.config.values import BadValue, Kind
from django_wsgiserve.suggestion import nearest

T = TypeVar("T")

VARIABLE_PREFIX = "WSGISERVE_"
# epoll_wait(2) takes milliseconds in a C int, which ends after 24.8 days.
LONGEST_S = 24 * 86400.0


class Topic(Enum):
    """The groups of `--help` and of the reference, in their order."""

    LISTENING = "Where it listens"
    WORKERS = "Workers"
    DEADLINES = "Deadlines"
    VIEWS = "Single views"
    LIMITS = "Limits of a request and a response"
    LOGS = "Logs"
    PROCESS = "The process"


WHOLE: Kind[int] = Kind("number", "N", "a whole number", read.parse_whole, str)
DURATION: Kind[float] = Kind(
    "duration",
    "TIME",
    'seconds, or text such as "30s", "5m", "1h 30m", "500ms"; a `timedelta` in settings',
    read.parse_duration,
    read.show_duration,
)
SIZE: Kind[int] = Kind(
    "size",
    "SIZE",
    'bytes, or text such as "512KiB", "300MiB", "1G" (powers of 1024), "20MB" (of 1000)',
    read.parse_size,
    read.show_size,
)
MODE: Kind[int] = Kind(
    "mode",
    "MODE",
    'octal permission bits: 0o660, or "660" as text',
    read.parse_mode,
    "0o{:o}".format,
)
BOOLEAN: Kind[bool] = Kind(
    "boolean",
    "BOOL",
    "`True` or `False`; true, yes, on, 1 and their opposites as text",
    read.parse_boolean,
    str,
)
TEXT: Kind[str] = Kind("text", "TEXT", "text on one line", read.parse_text, str)
WORD: Kind[str] = Kind("choice", "NAME", "one of the choices, in any case", read.parse_word, str)
FILE: Kind[str] = Kind(
    "file",
    "FILE",
    'a path; "-" for the standard stream; "off" for none',
    read.parse_file,
    lambda path: path or "off",
)
DIRECTORY: Kind[str] = Kind(
    "directory", "DIR", "the path of a directory", read.parse_file, lambda path: path or "off"
)
WORKER_COUNT: Kind[int] = Kind(
    "number or auto",
    "N",
    'a number of processes, or "auto"',
    read.parse_workers,
    lambda count: str(count or "auto"),
)
ADDRESSES: Kind[tuple[str, ...]] = Kind(
    "addresses",
    "ADDRESS",
    "`host:port`, `:port`, `[v6]:port`, `unix:path`, `fd://number`; several as a list or "
    "separated by commas",
    read.parse_binds,
    read.show_list,
)
PATHS: Kind[tuple[str, ...]] = Kind(
    "paths",
    "PATH",
    'paths of the site, as a list or separated by commas; "off" for none',
    read.parse_paths,
    lambda paths: read.show_list(paths) or "off",
)
ACCESS_FORMAT: Kind[str] = Kind(
    "format",
    "FORMAT",
    "`auto`, `combined`, `json`, or a Gunicorn format such as `%(h)s %(r)s %(s)s`",
    read.parse_access_format,
    str,
)


@dataclass(frozen=True, slots=True)
class Option(Generic[T]):
    """One row of the table, without the field it describes.

    Attributes:
        kind: How its values are read and written.
        topic: The group it is shown in.
        help: What it does; one or two sentences for `--help` and the reference.
        unit: What a number counts; the kinds duration and size imply theirs.
        minimum: The smallest number that is accepted.
        maximum: The largest number that is accepted.
        zero: What 0 means, when it does not just mean none.
        zero_is_maximum: 0 is read as `maximum` (Gunicorn's "no limit").
        choices: The words that are accepted; empty for any.
        synonyms: Other words for some of the choices: Gunicorn's names.
        short: Gunicorn's one-letter flag.
        aliases: Gunicorn's other long flags of the same meaning.
        gunicorn_key: Its name in a `gunicorn.conf.py`, where that is another.
        platform_variable: A variable that hosting platforms set.
        platform_form: The value made from that variable.
        flag_only: It describes this one process and so cannot be a setting.
        settings_only: It is no single value, and so has no flag and no variable.
        reloads: Whether a reload can change it; else it takes a restart.
        default_shown: The default in words, when the field's own would not say it.
        example: A value to show people, when the default would be a poor one.
    """

    kind: Kind[T]
    topic: Topic
    help: str
    _: dataclasses.KW_ONLY
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    zero: str = ""
    zero_is_maximum: bool = False
    choices: tuple[str, ...] = ()
    synonyms: Mapping[str, str] = dataclasses.field(default_factory=dict)
    short: str = ""
    aliases: tuple[str, ...] = ()
    gunicorn_key: str = ""
    platform_variable: str = ""
    platform_form: str = "{}"
    flag_only: bool = False
    settings_only: bool = False
    reloads: bool = True
    default_shown: str = ""
    example: str = ""

    def parse(self, value: object) -> T:
        """Return the typed value.

        Raises:
            BadValue: It has not the form, or is out of bounds, or no choice.
        """
        parsed: Any = self.kind.parse(value)
        if isinstance(parsed, str):
            parsed = self.synonyms.get(parsed, parsed)
        if self.choices and parsed not in self.choices:
            meant = nearest(str(parsed), self.choices, cutoff=0.5)
            raise BadValue(f"must be {either(self.choices)}, not {value!r}", meant)
        if isinstance(parsed, int | float) and not isinstance(parsed, bool):
            return self._within_bounds(parsed, value)
        checked: T = parsed
        return checked

    def _within_bounds(self, parsed: Any, value: object) -> T:
        if parsed == 0 and self.zero_is_maximum and self.maximum is not None:
            parsed = int(self.maximum)
        for bound, too_far, words in (
            (self.minimum, self.minimum is not None and parsed < self.minimum, "at least"),
            (self.maximum, self.maximum is not None and parsed > self.maximum, "at most"),
        ):
            if bound is not None and too_far:
                shown = self.kind.show(type(parsed)(bound))
                raise BadValue(f"must be {words} {shown}, not {value!r}", shown)
        within: T = parsed
        return within


def either(choices: tuple[str, ...]) -> str:
    """Return choices as people list them: `"a", "b" or "c"`."""
    quoted = [f'"{choice}"' for choice in choices]
    return " or ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))


def row(default: T, option: Option[T]) -> T:
    """Return a dataclass field that carries its row of the table."""
    field: T = dataclasses.field(default=default, metadata={"option": option})
    return field


def row_or_none(option: Option[T]) -> T | None:
    """Return a field like `row`, of something that may be left unsaid: then it is `None`."""
    field: T | None = dataclasses.field(default=None, metadata={"option": option})
    return field


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table, with the names that follow from its field."""

    field: str
    default: Any
    option: Option[Any]

    @property
    def key(self) -> str:
        """Its key in `WSGISERVE`: the field without its unit, in capitals."""
        return self.field.removesuffix("_s").upper()

    @property
    def flag(self) -> str:
        """Its long flag."""
        return "--" + self.key.lower().replace("_", "-")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return VARIABLE_PREFIX + self.key

    @property
    def is_variable(self) -> bool:
        """Whether its environment variable is read."""
        return not (self.option.flag_only or self.option.settings_only)

    @property
    def default_text(self) -> str:
        """Its default for people: as they would write it, and what it counts."""
        text = self.option.default_shown or self.show(self.default)
        unit = "bytes" if self.option.kind is SIZE else self.option.unit
        counts = bool(unit) and text.isdigit() and text != "0"
        return f"{text} {unit}" if counts else text

    @property
    def example(self) -> str:
        """A value that is accepted, as people would write it."""
        return self.option.example or self.show(self.default)

    def show(self, value: Any) -> str:
        """Return a value of this setting, as people would write it."""
        return self.option.kind.show(value)
