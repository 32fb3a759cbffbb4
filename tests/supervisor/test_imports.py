"""What the supervisor has loaded: no Django, and nothing that it can do without."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from django_wsgiserve import boot


@pytest.fixture(scope="module")
def loaded() -> frozenset[str]:
    """Return the modules of a process that is ready to be the supervisor."""
    command = boot.supervisor_command(-1)
    bootstrap, package = command[-3], command[-2]
    code = bootstrap.partition("sys.exit")[0] + "print(*sys.modules)"
    # Without coverage, which measures child processes, too, and brings modules of its own.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    output = subprocess.run(
        [sys.executable, "-P", "-c", code, package],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    ).stdout
    assert "django_wsgiserve.supervisor.main" in output.split()
    return frozenset(output.split())


@pytest.mark.parametrize("package", ["django", "asgiref", "sqlparse", "example_project"])
def test_supervisor_has_nothing_of_a_project(loaded: frozenset[str], package: str) -> None:
    assert not {name for name in loaded if name.split(".")[0] == package}


# Each by what makes it large: together 1.5 MiB of the 18 that the process has.
@pytest.mark.parametrize(
    "module", ["datetime", "difflib", "email", "platform", "shutil", "tempfile", "unittest"]
)
def test_supervisor_does_without(loaded: frozenset[str], module: str) -> None:
    assert module not in loaded


@pytest.mark.parametrize(
    "part",
    ["config.command_line", "config.resolution", "forkserver", "integration", "workers", "wsgi"],
)
def test_supervisor_knows_nothing_of_what_others_do(loaded: frozenset[str], part: str) -> None:
    assert not {name for name in loaded if name.startswith(f"django_wsgiserve.{part}")}
