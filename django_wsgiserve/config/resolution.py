"""Makes one configuration of the command line, the environment and the settings.

The strongest source wins: flag, environment, settings, automatic, default. Whatever is
wrong in any of them is found in one go, and for each value it is kept where it came
from. The sources are arguments: nothing here reads the settings or the environment.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from django_wsgiserve.config import MOST_WORKERS, ServerConfig
from django_wsgiserve.config.gunicorn_flags import GUNICORN_VARIABLES, advice_for_key
from django_wsgiserve.config.options import VARIABLE_PREFIX, Row
from django_wsgiserve.config.processors import Processors, available, worker_count
from django_wsgiserve.config.table import table
from django_wsgiserve.config.values import BadValue
from django_wsgiserve.errors import ConfigError
from django_wsgiserve.suggestion import nearest

FORKSERVER_VARIABLE = "WSGISERVE_FORKSERVER"
"""Set by the supervisor for the processes it starts, never by people."""


class Origin(Enum):
    """Where a value came from, the strongest first."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    SETTINGS = "settings"
    AUTOMATIC = "automatic"
    DEFAULT = "default"


class CheckId(Enum):
    """The system checks that report a `Problem`."""

    NOT_A_DICT = "wsgiserve.E001"
    UNKNOWN_KEY = "wsgiserve.E002"
    BAD_SETTING = "wsgiserve.E003"
    BAD_VARIABLE = "wsgiserve.E004"
    UNKNOWN_VARIABLE = "wsgiserve.E005"
    NO_APPLICATION = "wsgiserve.E006"
    UNKNOWN_VIEW = "wsgiserve.E007"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and what to write instead.

    Attributes:
        source: What is wrong, by the name people know: `--workers`, `PORT`.
        message: What is wrong with it; completes the sentence that `source` starts.
        hint: What to do; a line that can be pasted where there is one.
        check: The system check it is; `None` for what only concerns this one start.
    """

    source: str
    message: str
    hint: str = ""
    check: CheckId | None = None

    def __str__(self) -> str:
        name = f" ({self.check.value})" if self.check else ""
        hint = f"\n    {self.hint}" if self.hint else ""
        return f"{self.source} {self.message}{name}{hint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Everything a configuration is made of, as it was found.

    Attributes:
        flags: By key in lower case (`timeout`); `None` is a flag that was not given.
        environment: All variables, ours or not.
        settings: The value of `WSGISERVE`; `None` where there is none.
        problems: What was found wrong while the sources were read.
        notes: What the operator should know, found then too.
    """

    flags: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: object = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Given:
    """Where the value of one setting came from.

    Attributes:
        origin: The kind of source.
        name: The flag, variable or key; the arithmetic of an automatic value.
    """

    origin: Origin
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """A configuration, how it came about, and all that is wrong with it.

    A value with a problem was replaced by the next weaker one, so that `config` is
    always whole. Whoever serves must look at `problems` first.
    """

    config: ServerConfig
    origins: Mapping[str, Given]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A raw value for a setting, with how to write a better one in the same place."""

    given: Given
    value: object
    write: Callable[[str], str]
    check: CheckId | None


def resolve(sources: Sources, processors: Callable[[], Processors] = available) -> Resolution:
    """Return the configuration that the sources make, with every problem they have.

    Args:
        sources: What was found.
        processors: Counts the CPUs; called only when workers are automatic.
    """
    problems = [*sources.problems, *_unknown_keys(sources.settings)]
    problems.extend(_unknown_variables(sources.environment))
    values: dict[str, Any] = {}
    origins: dict[str, Given] = {}
    for row in table():
        origins[row.field] = Given(Origin.DEFAULT)
        for candidate in _candidates(row, sources):
            try:
                value = row.option.parse(candidate.value)
            except BadValue as error:
                problems.extend(_bad_value(row, candidate, error))
                continue
            if row.field not in values:
                values[row.field] = value
                origins[row.field] = candidate.given
    if values.get("workers"):
        given = origins["workers"]
        values["workers_reason"] = f"from {given.name}"
    else:
        count, arithmetic = worker_count(processors(), ServerConfig(**values).request_slots)
        if count > MOST_WORKERS:
            count, arithmetic = MOST_WORKERS, f"{arithmetic}, but at most {MOST_WORKERS}"
        values.update(workers=count, workers_reason=arithmetic)
        if origins["workers"].origin is Origin.DEFAULT:
            origins["workers"] = Given(Origin.AUTOMATIC, arithmetic)
    return Resolution(
        config=ServerConfig(**values),
        origins=origins,
        problems=tuple(problems),
        notes=(*sources.notes, *_notes(sources.environment)),
    )


def _bad_value(row: Row, candidate: _Candidate, error: BadValue) -> Iterator[Problem]:
    for where, part in error.all_parts:
        hint = candidate.write(part.example or row.example)
        yield Problem(f"{candidate.given.name}{where}", str(part), hint, candidate.check)


def _candidates(row: Row, sources: Sources) -> Iterator[_Candidate]:
    """Yield the values that are given for a setting, the strongest first.

    None and an empty variable count as not given: that is what `os.environ.get` in a
    settings file and `${NAME:-}` in a compose file leave behind.
    """
    if not row.option.settings_only:
        yield from _outside_settings(row, sources)
    value = sources.settings.get(row.key) if isinstance(sources.settings, Mapping) else None
    if value is not None and not row.option.flag_only:
        yield _Candidate(
            Given(Origin.SETTINGS, f'WSGISERVE["{row.key}"]'),
            value,
            lambda text: _settings_line(row, text),
            CheckId.BAD_SETTING,
        )


def _outside_settings(row: Row, sources: Sources) -> Iterator[_Candidate]:
    """Yield what the command line and the environment give for a setting."""
    overridden = False
    if (value := sources.flags.get(row.key.lower())) is not None:
        overridden = True
        yield _Candidate(
            Given(Origin.FLAG, row.flag), value, lambda text: _flag_line(row, text), None
        )
    if row.option.flag_only:
        return
    if value := sources.environment.get(row.variable):
        overridden = True
        yield _Candidate(
            Given(Origin.ENVIRONMENT, row.variable),
            value,
            lambda text: f"{row.variable}={shlex.quote(text)}",
            CheckId.BAD_VARIABLE,
        )
    # A platform sets these whether they are wanted or not; what they hold is looked at
    # only when it decides, and it is no concern of a `manage.py check` on another host.
    platform = row.option.platform_variable
    if not overridden and (value := sources.environment.get(platform)):
        yield _Candidate(
            Given(Origin.ENVIRONMENT, platform),
            row.option.platform_form.format(value),
            lambda text: f"{platform}={text.rpartition(':')[2]}",
            None,
        )


def _flag_line(row: Row, text: str) -> str:
    if text in {"True", "False"}:
        return row.flag if text == "True" else row.flag.replace("--", "--no-", 1)
    return f"{row.flag} {shlex.quote(text)}"


def _settings_line(row: Row, text: str) -> str:
    is_literal = text.isdigit() or text in {"True", "False"} or text.startswith("0o")
    is_literal = is_literal or row.option.settings_only
    return f'"{row.key}": {text if is_literal else quoted(text)},'


def quoted(text: str) -> str:
    """Return a Python literal in double quotes, as settings files are written."""
    return f'"{text}"' if text.isprintable() and not set(text) & set('"\\') else repr(text)


def _unknown_keys(settings: object) -> Iterator[Problem]:
    if settings is None:
        return
    if not isinstance(settings, Mapping):
        yield Problem(
            "WSGISERVE",
            f"must be a dict, not {settings!r}",
            'WSGISERVE = {"WORKERS": 4}',
            CheckId.NOT_A_DICT,
        )
        return
    known = {row.key for row in table() if not row.option.flag_only}
    for key, value in settings.items():
        if key not in known:
            yield _unknown_key(key, value, known)


def _unknown_key(key: object, value: object, known: set[str]) -> Problem:
    source = f"WSGISERVE[{quoted(key) if isinstance(key, str) else repr(key)}]"
    name = str(key).upper().replace("-", "_")
    for row in table():
        if row.option.flag_only and row.key == name:
            return Problem(
                source, "can only be a flag", _flag_line(row, row.example), CheckId.UNKNOWN_KEY
            )
    if advice := advice_for_key(name):
        return Problem(source, "is not a setting", advice, CheckId.UNKNOWN_KEY)
    if meant := _meant_key(name, known):
        return Problem(
            source,
            f"is not a setting; did you mean {quoted(meant)}?",
            f'"{meant}": {value!r},',
            CheckId.UNKNOWN_KEY,
        )
    return Problem(
        source, "is not a setting", f"The settings are {', '.join(sorted(known))}.",
        CheckId.UNKNOWN_KEY,
    )  # fmt: skip


def _meant_key(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the key that a name comes closest to; empty when none is close."""
    names = {key: key for key in known}
    names |= {
        row.option.gunicorn_key.upper(): row.key for row in table() if row.option.gunicorn_key
    }
    return names.get(nearest(name, names, cutoff), "")


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[Problem]:
    """Yield a problem for each variable that is close to one of ours.

    Others are let be: Kubernetes gives a pod WSGISERVE_SERVICE_HOST and the like when a
    service of that name exists.
    """
    known = {row.key for row in table() if row.is_variable}
    in_settings = {row.key: row for row in table() if row.option.settings_only}
    for key in _strange_keys(environment):
        if key in in_settings:
            row = in_settings[key]
            yield Problem(
                row.variable,
                "is not a variable of this server: it can only be given in settings.py",
                f"WSGISERVE = {{{_settings_line(row, row.example).rstrip(',')}}}",
                CheckId.UNKNOWN_VARIABLE,
            )
        elif meant := _meant_key(key, known, cutoff=0.8):
            value = shlex.quote(environment[VARIABLE_PREFIX + key])
            yield Problem(
                VARIABLE_PREFIX + key,
                f"is not a variable of this server; did you mean {VARIABLE_PREFIX}{meant}?",
                f"{VARIABLE_PREFIX}{meant}={value}",
                CheckId.UNKNOWN_VARIABLE,
            )


def _strange_keys(environment: Mapping[str, str]) -> Iterator[str]:
    known = {row.variable for row in table() if row.is_variable} | {FORKSERVER_VARIABLE}
    for variable in sorted(environment):
        if variable.startswith(VARIABLE_PREFIX) and variable not in known:
            yield variable.removeprefix(VARIABLE_PREFIX)


def _notes(environment: Mapping[str, str]) -> Iterator[str]:
    for variable, advice in GUNICORN_VARIABLES.items():
        if environment.get(variable):
            yield f"{variable} {advice}"


def config_error(problems: tuple[Problem, ...]) -> ConfigError:
    """Return one error that shows every problem."""
    if len(problems) == 1:
        return ConfigError(f"The configuration has a problem:\n\n  {_indented(problems[0])}")
    shown = "".join(f"\n\n  {_indented(problem)}" for problem in problems)
    return ConfigError(f"The configuration has {len(problems)} problems:{shown}")


def _indented(problem: Problem) -> str:
    return str(problem).replace("\n", "\n  ")


def shown(resolution: Resolution) -> str:
    """Return every setting with its value and where that came from, a line each."""
    lines = []
    for row in table():
        given = resolution.origins[row.field]
        value = row.show(getattr(resolution.config, row.field))
        if given.origin is Origin.DEFAULT and row.option.default_shown:
            value = row.option.default_shown
        lines.append((row.key, str(value), given.origin.value, given.name))
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join("  ".join(map(str.ljust, line, (*widths, 0))).rstrip() for line in lines)
