"""Where a value may come from, and which one wins."""

from __future__ import annotations

import pytest

from tests.integration.conftest import RunServer
from tests.integration.project_copy import ProjectCopy

FLAG = ("--timeout", "11")
ENVIRONMENT = {"WSGISERVE_TIMEOUT": "22"}


@pytest.mark.parametrize(
    ("given", "wins", "origin"),
    [
        ((FLAG, ENVIRONMENT, True), "11", "--timeout"),
        (((), ENVIRONMENT, True), "22", "WSGISERVE_TIMEOUT"),
        (((), {}, True), "33", "settings"),
        (((), {}, False), "30", "default"),
    ],
)
def test_a_flag_beats_the_environment_beats_the_settings_beat_the_default(
    project: ProjectCopy,
    given: tuple[tuple[str, ...], dict[str, str], bool],
    wins: str,
    origin: str,
) -> None:
    flags, environment, in_settings = given
    if in_settings:
        project.configure(TIMEOUT=33)
    printed = project.manage("runprod", "--print-config", *flags, **environment)
    assert printed.returncode == 0, printed.stderr
    (row,) = (line for line in printed.stdout.splitlines() if line.split()[:1] == ["TIMEOUT"])
    assert wins in row
    assert origin.lower() in row.lower()


def test_check_config_of_a_sound_project_says_so_and_starts_nothing(project: ProjectCopy) -> None:
    checked = project.manage("runprod", "--check-config")
    assert checked.returncode == 0, checked.stderr


def test_check_config_lists_every_problem_and_exits_with_the_code_for_usage(
    project: ProjectCopy,
) -> None:
    project.configure(WORKRES=2, WORKER_CLASS="snyc")
    checked = project.manage("runprod", "--check-config", WSGISERVE_TIMEOUT="soon")
    assert checked.returncode == 2
    told = checked.stdout + checked.stderr
    for word in ("WORKRES", "WORKERS", "snyc", "sync", "WSGISERVE_TIMEOUT"):
        assert word in told


def test_port_and_web_concurrency_are_understood_as_hosts_set_them(
    project: ProjectCopy,
) -> None:
    printed = project.manage("runprod", "--print-config", PORT="8123", WEB_CONCURRENCY="3")
    rows = {line.split()[0]: line for line in printed.stdout.splitlines() if line.split()}
    assert "8123" in rows["BIND"]
    assert "PORT" in rows["BIND"]
    assert "3" in rows["WORKERS"]
    assert "WEB_CONCURRENCY" in rows["WORKERS"]


def test_the_number_of_workers_of_the_settings_is_started(
    project: ProjectCopy, run_server: RunServer
) -> None:
    project.configure(WORKERS=3)
    server = run_server()
    assert len(server.wait_for_workers(3)) == 3


def test_automatic_workers_come_with_their_arithmetic(run_server: RunServer) -> None:
    server = run_server("--workers", "auto")
    assert "CPU" in server.log.wait_for("(?i)worker.*CPU")


def test_a_reload_takes_the_new_settings(project: ProjectCopy, run_server: RunServer) -> None:
    project.configure(WORKERS=1, LIMIT_REQUEST_BODY=10)
    server = run_server()
    with server.connect() as wire:
        assert wire.request("POST", "/echo", body=b"x" * 11).status == 413
    project.configure(WORKERS=2, LIMIT_REQUEST_BODY=100)
    server.reload()
    assert len(server.wait_for_workers(2)) == 2
    with server.connect() as wire:
        assert wire.request("POST", "/echo", body=b"x" * 11).status == 200
