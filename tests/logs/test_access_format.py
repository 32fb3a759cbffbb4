"""What the operator is told about a value of ACCESS_LOG_FORMAT."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsgiserve.config.access_format import COMBINED, IDENTIFIERS, access_log_problems
from django_wsgiserve.errors import ConfigError
from django_wsgiserve.logs.access_line import compile_format
from tests.logs.sample_events import finished

REFERENCE = Path(__file__).parents[2] / "docs/reference/access-log.md"


@pytest.mark.parametrize("name", ["auto", "combined", "json", COMBINED, "%({X-Foo}i)s 100%% %(D)d"])
def test_good_formats_have_no_problems(name: str) -> None:
    assert access_log_problems(name) == []
    assert compile_format(name)(finished()).endswith("\n")


@pytest.mark.parametrize(
    ("access_log_format", "expected"),
    [
        ("combind", "did you mean 'combined'?"),
        ("%(R)s", "did you mean %(r)s?"),
        ("%(status)s", "did you mean %(s)s?"),
        ("%(user-agent)s", "did you mean %({user-agent}i)s?"),
        ("%(X-Trace)o", "did you mean %({X-Trace}o)s?"),
        ("%({X-Trace}x)s", "did you mean %({X-Trace}i)s?"),
        ("%(z)s", "there are h l u t r s m"),
        ("%h %(s)s", "write %(h)s"),
        ("50% %(s)s", "character 3"),
        ("%(s)", "lacks its conversion"),
        ("%(h)d", "cannot be written with 'd'"),
        ("%(s).2d", "has no precision"),
        ("%(h)s\n%(s)s", "line break"),
    ],
)
def test_mistake_is_named_with_its_cure(access_log_format: str, expected: str) -> None:
    [problem] = access_log_problems(access_log_format)
    assert expected in problem


def test_all_mistakes_are_named_at_once() -> None:
    assert len(access_log_problems("%(R)s %(S)s %h")) == 3


def test_compiling_a_format_with_mistakes_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"did you mean %\(r\)s"):
        compile_format("%(R)s")


@given(st.text(alphabet="%(){}hsrieotX-d .0123456789\n\\\"'", max_size=40))
def test_a_format_is_either_refused_or_works(access_log_format: str) -> None:
    if not access_log_problems("%(s)s" + access_log_format):
        line = compile_format("%(s)s" + access_log_format)(finished())
        assert line.startswith("200")
        assert line.count("\n") == 1


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_every_identifier_is_in_the_reference(identifier: str) -> None:
    assert f"| `%({identifier})s` |" in REFERENCE.read_text(encoding="utf-8")
