"""The command on a real project: what it says, and that it exits as it should."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from django_wsgiserve.config.table import table

ROOT = Path(__file__).resolve().parents[2]

MANAGE = """\
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
SETTINGS = """\
SECRET_KEY = "for a test"
INSTALLED_APPS = ["django_wsgiserve"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
"""

Manage = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the directory of a project that has a settings file and nothing else."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "settings.py").write_text(SETTINGS)
    (tmp_path / "shop" / "urls.py").write_text("urlpatterns = []\n")
    (tmp_path / "manage.py").write_text(MANAGE)
    return tmp_path


@pytest.fixture
def manage(project: Path) -> Manage:
    """Return a function that runs the project's manage.py."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("WSGISERVE_")
        and name not in {"PORT", "WEB_CONCURRENCY", "DJANGO_SETTINGS_MODULE"}
    }

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=project,
            env={**ours, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def configure(project: Path, line: str) -> None:
    with (project / "shop" / "settings.py").open("a") as settings:
        settings.write(line + "\n")


def test_sound_configuration_is_ok(manage: Manage) -> None:
    ran = manage("runprod", "--check-config", "-w", "2")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "ok\n", "")


def test_accepted_flag_of_gunicorn_is_noted(manage: Manage) -> None:
    ran = manage("runprod", "--check-config", "--preload")
    assert (ran.returncode, ran.stdout) == (0, "ok\n")
    assert "--preload is not needed" in ran.stderr


@pytest.mark.parametrize("words", [("--check-config",), ("--print-config",), ()])
def test_all_problems_are_listed_and_the_exit_code_is_2(
    project: Path, manage: Manage, words: tuple[str, ...]
) -> None:
    configure(project, 'WSGISERVE = {"WORKRES": 4, "TIMEOUT": "soon"}\nWSGI_APPLICATION = None')
    ran = manage(
        "runprod", *words, "--keep-aliv", "5", "-w", "many", "--certfile", "x",
        WSGISERVE_BIND="8000", WSGISERVE_LOGLEVEL="info", WEB_CONCURRENCY="ignored",
    )  # fmt: skip
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert "8 problems" in ran.stderr
    assert "Traceback" not in ran.stderr
    for line in (
        '"WORKERS": 4,',
        '"TIMEOUT": "30s",',
        "Did you mean --keep-alive?",
        "--workers 4",
        "terminate it in the proxy",
        "WSGISERVE_BIND=127.0.0.1:8000",
        "WSGISERVE_LOG_LEVEL=info",
        'WSGI_APPLICATION = "shop.wsgi.application"',
    ):
        assert line in ran.stderr


def test_printed_configuration_names_every_value_and_its_source(
    project: Path, manage: Manage
) -> None:
    configure(project, 'WSGISERVE = {"TIMEOUT": "2m", "LOG_LEVEL": "debug"}')
    ran = manage("runprod", "--print-config", "--log-level", "error", PORT="5000")
    assert ran.returncode == 0, ran.stderr
    rows = {line.split()[0]: line.split()[1:] for line in ran.stdout.splitlines()}
    assert list(rows) == [row.key for row in table()]
    assert rows["TIMEOUT"] == ["2m", "settings", 'WSGISERVE["TIMEOUT"]']
    assert rows["LOG_LEVEL"] == ["error", "flag", "--log-level"]
    assert rows["BIND"] == ["0.0.0.0:5000", "environment", "PORT"]
    assert rows["WORKERS"][1] == "automatic"
    assert rows["BACKLOG"] == ["2048", "default"]


def test_check_command_shows_the_same_problems(project: Path, manage: Manage) -> None:
    configure(project, 'WSGISERVE = {"WORKRES": 4}')
    ran = manage("check")
    assert ran.returncode == 1
    assert "wsgiserve.E002" in ran.stderr
    assert 'HINT: "WORKERS": 4,' in ran.stderr


def test_silenced_check_lets_the_command_go_on(project: Path, manage: Manage) -> None:
    configure(project, 'WSGISERVE = {"WORKRES": 4}\nSILENCED_SYSTEM_CHECKS = ["wsgiserve.E002"]')
    assert manage("runprod", "--check-config").stdout == "ok\n"


def test_help_lists_every_flag_by_topic(manage: Manage) -> None:
    ran = manage("runprod", "--help", COLUMNS="100")
    assert ran.returncode == 0
    for row in table():
        if row.option.settings_only:
            assert row.flag not in ran.stdout
            continue
        assert row.flag in ran.stdout
        assert f"\n{row.option.topic.value}:\n" in ran.stdout
    assert "--check-config" in ran.stdout
    assert "WSGISERVE_MAX_REQUESTS" in ran.stdout


def test_flag_without_its_value_is_a_usage_error(manage: Manage) -> None:
    ran = manage("runprod", "--workers")
    assert ran.returncode == 2
    assert "expected one argument" in ran.stderr
