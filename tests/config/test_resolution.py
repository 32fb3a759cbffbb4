"""Which source wins, where each value came from, and all problems at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from django_wsgiserve.config import MOST_WORKERS, ServerConfig
from django_wsgiserve.config.processors import Processors
from django_wsgiserve.config.resolution import (
    CheckId,
    Given,
    Origin,
    Problem,
    Resolution,
    Sources,
    config_error,
    resolve,
    shown,
)
from django_wsgiserve.config.table import table
from django_wsgiserve.errors import ConfigError, ExitCode

ONE_AND_A_HALF = Processors(2, 1.5)


def resolved(
    settings: object = None,
    *,
    flags: dict[str, object] | None = None,
    cpus: Processors = ONE_AND_A_HALF,
    **environment: str,
) -> Resolution:
    """Return what these sources make on a machine with these CPUs."""
    sources = Sources(flags=flags or {}, environment=environment, settings=settings)
    return resolve(sources, processors=lambda: cpus)


def test_nothing_given_is_the_default_with_automatic_workers() -> None:
    resolution = resolved()
    arithmetic = "2 CPUs allowed by affinity, quota 1.5 → 2 × 2 + 1 = 5"  # noqa: RUF001
    assert resolution.config == ServerConfig(workers=5, workers_reason=arithmetic)
    assert resolution.problems == ()
    assert resolution.notes == ()
    assert resolution.origins["workers"] == Given(Origin.AUTOMATIC, arithmetic)
    assert resolution.origins["timeout_s"] == Given(Origin.DEFAULT)


@pytest.mark.parametrize(
    ("flag", "variable", "setting", "timeout_s", "given"),
    [
        ("1s", "2s", "3s", 1.0, Given(Origin.FLAG, "--timeout")),
        (None, "2s", "3s", 2.0, Given(Origin.ENVIRONMENT, "WSGISERVE_TIMEOUT")),
        (None, "", "3s", 3.0, Given(Origin.SETTINGS, 'WSGISERVE["TIMEOUT"]')),
        (None, "", None, 30.0, Given(Origin.DEFAULT)),
    ],
)
def test_stronger_source_wins_and_is_remembered(
    flag: str | None, variable: str, setting: str | None, timeout_s: float, given: Given
) -> None:
    resolution = resolved({"TIMEOUT": setting}, flags={"timeout": flag}, WSGISERVE_TIMEOUT=variable)
    assert resolution.config.timeout_s == timeout_s
    assert resolution.origins["timeout_s"] == given


def test_port_of_the_platform_listens_on_every_address_and_beats_the_settings() -> None:
    resolution = resolved({"BIND": "127.0.0.1:1"}, PORT="5000")
    assert resolution.config.bind == ("0.0.0.0:5000",)
    assert resolution.origins["bind"] == Given(Origin.ENVIRONMENT, "PORT")


def test_our_variables_beat_those_of_the_platform() -> None:
    resolution = resolved(
        PORT="5000", WSGISERVE_BIND="127.0.0.1:1", WEB_CONCURRENCY="3", WSGISERVE_WORKERS="4"
    )
    assert resolution.config.bind == ("127.0.0.1:1",)
    assert resolution.config.workers == 4


def test_variable_of_the_platform_is_not_looked_at_when_it_does_not_decide() -> None:
    assert resolved(flags={"bind": ["127.0.0.1:1"]}, PORT="tcp://10.0.0.1:80").problems == ()


def test_web_concurrency_is_where_the_workers_came_from() -> None:
    resolution = resolved(WEB_CONCURRENCY="3")
    assert resolution.config.workers == 3
    assert resolution.config.workers_reason == "from WEB_CONCURRENCY"


def test_auto_is_counted_and_still_came_from_where_it_was_written() -> None:
    resolution = resolved({"WORKERS": "auto"}, cpus=Processors(4))
    assert resolution.config.workers == 9
    assert resolution.origins["workers"] == Given(Origin.SETTINGS, 'WSGISERVE["WORKERS"]')


def test_automatic_workers_stay_within_what_the_scoreboard_holds() -> None:
    config = resolved(cpus=Processors(1024)).config
    assert config.workers == MOST_WORKERS
    assert config.workers_reason.endswith(f"at most {MOST_WORKERS}")


def test_cpus_are_not_counted_when_the_number_is_given() -> None:
    def fail() -> Processors:
        raise AssertionError

    assert resolve(Sources(settings={"WORKERS": 3}), processors=fail).config.workers == 3


def problem_of(resolution: Resolution) -> Problem:
    (problem,) = resolution.problems
    return problem


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("WORKRES", 4, '"WORKERS": 4,'),
        ("workers", 4, '"WORKERS": 4,'),
        ("MAX-REQUESTS", 9, '"MAX_REQUESTS": 9,'),
        ("ACCESSLOG", "-", "\"ACCESS_LOGFILE\": '-',"),
        ("LOGLEVEL", "info", "\"LOG_LEVEL\": 'info',"),
        ("KEEP_ALIVE", 5, '"KEEPALIVE": 5,'),
    ],
)
def test_misspelt_key_is_answered_with_the_one_that_was_meant(
    key: str, value: object, meant: str
) -> None:
    problem = problem_of(resolved({key: value}))
    assert problem.source == f'WSGISERVE["{key}"]'
    assert "did you mean" in problem.message
    assert problem.hint == meant
    assert problem.check is CheckId.UNKNOWN_KEY


def test_key_like_no_other_is_answered_with_all_of_them() -> None:
    hint = problem_of(resolved({"XYZZY": 1})).hint
    assert all(row.key in hint for row in table() if not row.option.flag_only)


def test_setting_of_gunicorn_that_is_none_here_is_answered_with_what_to_do() -> None:
    assert "TLS" in problem_of(resolved({"CERTFILE": "/x"})).hint
    assert "loaded once" in problem_of(resolved({"PRELOAD_APP": True})).hint


def test_flag_that_is_no_setting_is_called_one() -> None:
    problem = problem_of(resolved({"READY_FD": 3}))
    assert problem.message == "can only be a flag"
    assert problem.hint == "--ready-fd 3"


@pytest.mark.parametrize("settings", [[], "WORKERS=4", 4, False])
def test_settings_that_are_no_dict_are_one_problem(settings: object) -> None:
    problem = problem_of(resolved(settings))
    assert problem.check is CheckId.NOT_A_DICT
    assert repr(settings) in problem.message


def test_key_that_is_no_text_is_a_problem() -> None:
    assert problem_of(resolved({3: 4})).source == "WSGISERVE[3]"


@pytest.mark.parametrize(
    ("resolution", "source", "hint"),
    [
        (resolved({"TIMEOUT": "soon"}), 'WSGISERVE["TIMEOUT"]', '"TIMEOUT": "30s",'),
        (resolved({"WORKERS": 0}), 'WSGISERVE["WORKERS"]', '"WORKERS": 4,'),
        (resolved({"SOCKET_MODE": 660}), 'WSGISERVE["SOCKET_MODE"]', '"SOCKET_MODE": 0o660,'),
        (resolved({"SERVER_HEADER": 7}), 'WSGISERVE["SERVER_HEADER"]', '"SERVER_HEADER": True,'),
        (resolved({"LOG_LEVEL": "wran"}), 'WSGISERVE["LOG_LEVEL"]', '"LOG_LEVEL": "warning",'),
        (resolved({"WORKER_CLASS": "syn"}), 'WSGISERVE["WORKER_CLASS"]', '"WORKER_CLASS": "sync",'),
        (resolved(WSGISERVE_BIND="8000"), "WSGISERVE_BIND", "WSGISERVE_BIND=127.0.0.1:8000"),
        (resolved(PORT="http"), "PORT", "PORT=8000"),
        (resolved(WEB_CONCURRENCY="x"), "WEB_CONCURRENCY", "WEB_CONCURRENCY=4"),
        (resolved(flags={"timeout": "x"}), "--timeout", "--timeout 30s"),
        (resolved(flags={"server_header": "x"}), "--server-header", "--server-header"),
    ],
)
def test_bad_value_is_answered_with_a_line_to_paste(
    resolution: Resolution, source: str, hint: str
) -> None:
    problem = problem_of(resolution)
    assert (problem.source, problem.hint) == (source, hint)


@pytest.mark.parametrize("row", [row for row in table() if not row.option.flag_only])
def test_line_to_paste_into_the_settings_is_accepted(row: Any) -> None:
    hint = problem_of(resolved({row.key: object()})).hint
    pasted = eval(f"{{{hint}}}")  # noqa: S307 - that it is Python is the claim
    assert list(pasted) == [row.key]
    assert resolved(pasted).problems == ()


def test_misspelt_variable_is_a_problem_and_one_of_somebody_else_is_not() -> None:
    resolution = resolved(
        WSGISERVE_WORKRES="4",
        WSGISERVE_SERVICE_HOST="10.0.0.1",
        WSGISERVE_PORT_8000_TCP="tcp://10.0.0.1:8000",
        WSGISERVE_FORKSERVER="{}",
    )
    problem = problem_of(resolution)
    assert problem.source == "WSGISERVE_WORKRES"
    assert problem.hint == "WSGISERVE_WORKERS=4"
    assert problem.check is CheckId.UNKNOWN_VARIABLE


def test_every_problem_of_every_source_is_found_at_once() -> None:
    sources = Sources(
        flags={"timeout": "x", "workers": "0"},
        environment={"WSGISERVE_BIND": "nowhere:x", "WSGISERVE_WORKRES": "3"},
        settings={"TIMEOUT": "y", "MAX_REQUETS": 3, "LOG_LEVEL": "loud", "WORKERS": 3},
        problems=(Problem("WSGI_APPLICATION", "is not set"),),
    )
    resolution = resolve(sources)
    assert sorted(problem.source for problem in resolution.problems) == [
        "--timeout",
        "--workers",
        'WSGISERVE["LOG_LEVEL"]',
        'WSGISERVE["MAX_REQUETS"]',
        'WSGISERVE["TIMEOUT"]',
        "WSGISERVE_BIND",
        "WSGISERVE_WORKRES",
        "WSGI_APPLICATION",
    ]
    # Whoever may ignore a problem still gets a whole configuration, of what is left.
    assert resolution.config.workers == 3
    error = config_error(resolution.problems)
    assert isinstance(error, ConfigError)
    assert error.exit_code is ExitCode.USAGE
    assert "8 problems" in str(error)
    assert all(problem.source in str(error) for problem in resolution.problems)


def test_one_problem_is_not_counted() -> None:
    error = config_error(resolved({"TIMEOUT": "soon"}).problems)
    assert "problems" not in str(error)
    assert "(wsgiserve.E003)" in str(error)


def test_variables_of_gunicorn_that_are_not_read_are_noted() -> None:
    notes = resolved(GUNICORN_CMD_ARGS="--workers 3", FORWARDED_ALLOW_IPS="*").notes
    assert [note.split()[0] for note in notes] == ["GUNICORN_CMD_ARGS", "FORWARDED_ALLOW_IPS"]


def test_shown_configuration_is_aligned_and_names_each_source() -> None:
    text = shown(resolved({"TIMEOUT": "1h"}, flags={"pidfile": "/run/a b.pid"}, PORT="5000"))
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert list(lines) == [row.key for row in table()]
    assert lines["TIMEOUT"].split()[1:] == ["1h", "settings", 'WSGISERVE["TIMEOUT"]']
    assert lines["BIND"].split()[1:] == ["0.0.0.0:5000", "environment", "PORT"]
    assert lines["PIDFILE"].endswith("flag         --pidfile")
    assert lines["SPOOL_DIR"].endswith("default")
    assert "5        " in lines["WORKERS"]
    origins = {line.index(word) for line in lines.values() for word in _origin_in(line)}
    assert len(origins) == 1


def _origin_in(line: str) -> list[str]:
    return [f"  {o.value}" for o in Origin if f"  {o.value}" in line][:1]


def test_configuration_survives_json() -> None:
    config = resolved(
        {"BIND": ["127.0.0.1:1", "unix:/a"], "WARMUP": [], "SOCKET_MODE": "600"}
    ).config
    assert ServerConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_configuration_of_another_version_is_read_as_far_as_it_is_known() -> None:
    values = ServerConfig(workers=3).to_json() | {"of_the_future": 1}
    del values["timeout_s"]
    assert ServerConfig.from_json(values) == ServerConfig(workers=3)
