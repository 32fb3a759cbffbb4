"""Writes docs/reference/settings.md from the configuration table.

python -m tools.settings_reference          # write the page
python -m tools.settings_reference --check  # exit 1 when it is stale
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from django_wsgiserve.config.gunicorn_flags import GUNICORN_FLAGS, GUNICORN_VARIABLES, Verdict
from django_wsgiserve.config.options import VARIABLE_PREFIX, Row, Topic
from django_wsgiserve.config.table import table
from django_wsgiserve.config.views import VIEWS, view_table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "settings.md"

VIEWS_EXAMPLE = """\
"TIMEOUT": "30s",
    "VIEWS": {
        "reports:export": {"TIMEOUT": "5m"},
        "admin": {"TIMEOUT": "2m"},
    },"""
_INTRODUCTION = f"""\
# Settings

<!-- Written by tools/settings_reference.py from config/table.py; change it there. -->

Every setting is optional. Each but VIEWS can be given in three places, and the first that has it
wins:

1. as a flag: `python manage.py runprod --timeout 1m`
2. as an environment variable: `{VARIABLE_PREFIX}TIMEOUT=1m`; for a few also a variable that
   hosting platforms set, which is weaker than ours
3. in settings.py: `WSGISERVE = {{"TIMEOUT": "1m"}}`

What is given nowhere is found out (`WORKERS`) or has its default. `None` in the dict and an empty
variable count as not given. A misspelt key and a value that cannot be used are found by
`manage.py check`, and `runprod` does not start with them: it lists them all and exits with code 2.
`runprod --check-config` only looks; `runprod --print-config` shows every value with its origin.
"""


def page() -> str:
    """Return the page, from the table alone."""
    return "\n".join((_INTRODUCTION, *_topics(), *_kinds(), *_gunicorn()))


def _topics() -> Iterator[str]:
    for topic in Topic:
        yield f"## {topic.value}\n"
        for row in table():
            if row.option.topic is topic:
                yield from _setting(row)


def _setting(row: Row) -> Iterator[str]:
    option = row.option
    yield f"### {row.flag if option.flag_only else row.key}\n"
    yield f"{option.help}\n"
    if option.settings_only:
        yield "- Only in settings.py"
    else:
        flags = [flag for flag in (option.short, row.flag, *option.aliases) if flag]
        yield f"- Flag: {', '.join(f'`{flag}`' for flag in flags)}"
    if row.is_variable:
        platform = f", weaker also `{option.platform_variable}`" if option.platform_variable else ""
        yield f"- Environment: `{row.variable}`{platform}"
    yield f"- Value: {_value(row)}"
    yield f"- Default: {_default(row)}"
    yield f"- A reload changes it: {'yes' if option.reloads else 'no, it takes a restart'}\n"
    if option.kind is VIEWS:
        yield from _views(row)


def _views(row: Row) -> Iterator[str]:
    yield f"```python\nWSGISERVE = {{\n    {VIEWS_EXAMPLE}\n}}\n```\n"
    yield (
        "A name is that of a URL with its namespaces, as `reverse()` takes it; a URL that has no\n"
        "name goes by the dotted path of its view. A namespace stands for everything below it. A\n"
        "name that the URLconf does not have is an error of `manage.py check` (`wsgiserve.E007`),\n"
        "so it stops a start, and a reload is refused.\n"
    )
    yield "| Key | | Value |\n| --- | --- | --- |"
    for one in view_table():
        yield f"| `{one.key}` | {one.option.help} | {_value(one)} |"
    yield ""


def _value(row: Row) -> str:
    option = row.option
    if option.choices:
        return ", ".join(f"`{choice}`" for choice in option.choices)
    facts = [option.kind.name]
    if option.unit:
        facts.append(option.unit)
    if option.minimum is not None:
        facts.append(f"at least {_bound(row, option.minimum)}")
    if option.maximum is not None:
        facts.append(f"at most {_bound(row, option.maximum)}")
    if option.zero:
        facts.append(f"{row.show(0)} is {option.zero}")
    return ", ".join(facts)


def _bound(row: Row, bound: float) -> str:
    return row.show(bound if row.default is None else type(row.default)(bound))


def _default(row: Row) -> str:
    if row.option.default_shown:
        return row.option.default_shown
    return f"`{row.show(row.default)}`"


def _kinds() -> Iterator[str]:
    yield "## Kinds of values\n"
    kinds = {row.option.kind.name: row.option.kind for row in table()}
    yield "| Kind | What is accepted |\n| --- | --- |"
    for name in sorted(kinds):
        yield f"| {name} | {kinds[name].accepts} |"
    yield ""


def _gunicorn() -> Iterator[str]:
    yield "## Flags of Gunicorn\n"
    yield ("A flag of Gunicorn's that means the same here is one of the flags above. The others:\n")
    for verdict in Verdict:
        yield f"### {verdict.value.capitalize()}\n"
        yield "| Flag | |\n| --- | --- |"
        for flag in GUNICORN_FLAGS:
            if flag.verdict is verdict:
                names = ", ".join(f"`{name}`" for name in flag.names)
                yield f"| {names} | {flag.advice} |"
        yield ""
    yield "### Variables\n"
    yield "| Variable | |\n| --- | --- |"
    for variable, advice in GUNICORN_VARIABLES.items():
        yield f"| `{variable}` | {advice} |"
    yield ""


def main(arguments: list[str]) -> int:
    """Write the page, or compare it; return the exit code."""
    if arguments == ["--check"]:
        if PAGE.read_text(encoding="utf-8") == page():
            return 0
        sys.stderr.write(f"{PAGE} is stale: python -m tools.settings_reference\n")
        return 1
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
