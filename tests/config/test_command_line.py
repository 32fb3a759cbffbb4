"""The flags, held against those of the Gunicorn that is installed."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from django_wsgiserve.config.command_line import (
    UNKNOWN_WORDS,
    CommandLine,
    add_arguments,
    read_command_line,
)
from django_wsgiserve.config.resolution import Sources, resolve
from django_wsgiserve.config.table import table


def read(*words: str) -> CommandLine:
    """Return what a command line says."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options, unknown = parser.parse_known_args(words)
    return read_command_line({**vars(options), UNKNOWN_WORDS: unknown})


def config_of(*words: str) -> Any:
    """Return the configuration of a command line without a problem."""
    command = read(*words)
    resolution = resolve(Sources(flags=command.flags, problems=command.problems))
    assert resolution.problems == ()
    return resolution.config


def test_gunicorns_short_flags_mean_what_they_meant() -> None:
    config = config_of("-b", ":80", "-b", "unix:/a", "-w", "3", "-k", "sync", "-t", "60",
                       "-p", "/run/p", "-n", "shop")  # fmt: skip
    assert config.bind == ("0.0.0.0:80", "unix:/a")
    assert (config.workers, config.worker_class, config.timeout_s) == (3, "sync", 60.0)
    assert (config.pidfile, config.proc_name) == ("/run/p", "shop")


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (("--keep-alive", "5"), "keepalive_s", 5.0),
        (("--graceful-timeout", "10"), "graceful_timeout_s", 10.0),
        (("--max-requests", "1000"), "max_requests", 1000),
        (("--max-requests-jitter", "50"), "max_requests_jitter", 50),
        (("--backlog=64",), "backlog", 64),
        (("--worker-connections", "9"), "worker_connections", 9),
        (("--limit-request-line", "0"), "limit_request_line", 1024**2),
        (("--limit-request-fields", "7"), "limit_request_fields", 7),
        (("--limit-request-field_size", "999"), "limit_request_field_size", 999),
        (("--access-logfile", "-"), "access_logfile", "-"),
        (("--access-logformat", "%(h)s"), "access_log_format", "%(h)s"),
        (("--log-file", "/e"), "error_logfile", "/e"),
        (("--error-logfile", "/e"), "error_logfile", "/e"),
        (("--log-level", "DEBUG"), "log_level", "debug"),
        (("--pid", "/p"), "pidfile", "/p"),
        (("--name", "n"), "proc_name", "n"),
        (("--no-server-header",), "server_header", False),
        (("--ready-fd", "7"), "ready_fd", 7),
    ],
)
def test_flag_sets_its_field(words: tuple[str, ...], field: str, value: object) -> None:
    assert getattr(config_of(*words), field) == value


def test_every_flag_of_the_installed_gunicorn_is_understood() -> None:
    gunicorn_config = pytest.importorskip("gunicorn.config")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    ours = set(parser._option_string_actions)
    # Those of Django's own commands, and of runprod itself.
    ours |= {"--pythonpath", "--check-config", "--print-config"}
    theirs = {flag for setting in gunicorn_config.KNOWN_SETTINGS for flag in setting.cli or ()}
    assert theirs - ours == set()


def test_every_flag_of_gunicorn_takes_as_many_words_as_there() -> None:
    gunicorn_config = pytest.importorskip("gunicorn.config")
    theirs = gunicorn_config.Config().parser()._option_string_actions
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    ours = parser._option_string_actions
    differing = {flag for flag in set(theirs) & set(ours) if theirs[flag].nargs != ours[flag].nargs}
    assert differing == set()


def test_flag_whose_job_is_done_is_accepted_with_the_reason() -> None:
    command = read("--preload", "--worker-tmp-dir", "/x")
    assert command.problems == ()
    assert [note.split()[0] for note in command.notes] == ["--preload", "--worker-tmp-dir"]


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("--certfile", "/c"), "proxy"),
        (("-c", "gunicorn.conf.py"), "WSGISERVE"),
        (("-D",), "systemd"),
        (("--forwarded-allow-ips", "*"), "SECURE_PROXY_SSL_HEADER"),
        (("--reload",), "runserver"),
    ],
)
def test_flag_that_cannot_be_honoured_is_refused_with_what_to_do(
    words: tuple[str, ...], advice: str
) -> None:
    (problem,) = read(*words).problems
    assert problem.source == words[0]
    assert advice in problem.hint


@pytest.mark.parametrize(
    ("words", "source", "hint"),
    [
        (("--workres", "3"), "--workres", "Did you mean --workers?"),
        (("--worker=3",), "--worker", "Did you mean --workers?"),
        (("--keep_alive", "3"), "--keep_alive", "Did you mean --keep-alive?"),
        (("8000",), "'8000'", "--bind 127.0.0.1:8000"),
        (("0.0.0.0:80",), "'0.0.0.0:80'", "--bind 0.0.0.0:80"),
        (
            ("shop.wsgi",),
            "'shop.wsgi'",
            "What is served is settings.WSGI_APPLICATION; leave it out.",
        ),
        (
            ("shop.wsgi:application",),
            "'shop.wsgi:application'",
            "What is served is settings.WSGI_APPLICATION; leave it out.",
        ),
        (("--xyzzy",), "--xyzzy", "All flags: manage.py runprod --help"),
        (("fast",), "'fast'", "All flags: manage.py runprod --help"),
    ],
)
def test_word_that_is_not_understood_is_answered_with_what_was_meant(
    words: tuple[str, ...], source: str, hint: str
) -> None:
    (problem,) = read(*words).problems
    assert (problem.source, problem.hint) == (source, hint)


def test_value_behind_an_unknown_flag_is_no_second_problem() -> None:
    assert [p.source for p in read("--xyzzy", "3", "stray", "--plugh=4").problems] == [
        "--xyzzy",
        "'stray'",
        "--plugh",
    ]


def test_flags_not_given_say_nothing() -> None:
    assert set(read().flags.values()) == {None}
    with_flags = [row for row in table() if not row.option.settings_only]
    assert len(read().flags) == len(with_flags)


def test_help_names_the_default_and_its_unit_and_what_zero_means() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    text = " ".join(parser.format_help().split())
    assert "[default: 30s; 0s: no deadline]" in text
    assert "[default: auto; also from WEB_CONCURRENCY]" in text
    assert "[default: 2048 connections]" in text
    assert "--certfile" not in text
