"""What is handed from `runprod` to the supervisor that it becomes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from django_wsgiserve.boot import (
    Boot,
    initial_environment,
    interpreter_flags,
    is_inherited,
    logical_directory,
    same_command,
    supervisor_command,
)
from django_wsgiserve.config import ServerConfig

BOOT = Boot(
    config=ServerConfig(workers=3, bind=("unix:/a",)),
    argv=("/venv/bin/python", "manage.py", "runprod", "--name", "caf\udce9"),
    cwd="/srv/site",
    notes=("one", "two"),
    settings_module="site.settings",
    wsgi_application="site.wsgi.application",
    versions={"python": "3.11.0"},
)


def test_state_is_read_back_from_its_descriptor_which_is_then_closed() -> None:
    fd = BOOT.to_fd()
    assert Boot.from_fd(fd) == BOOT
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_state_is_inherited_and_is_no_standard_stream() -> None:
    fd = BOOT.to_fd()
    try:
        assert os.get_inheritable(fd)
        assert fd > 2
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("argv", "flags"),
    [
        (["python", "manage.py", "runprod", "-W", "x"], []),
        (["python", "-B", "-u", "manage.py"], ["-B", "-u"]),
        (["python", "-Bu", "-OO", "manage.py"], ["-Bu", "-OO"]),
        (["python", "-W", "error", "-X", "dev", "manage.py"], ["-W", "error", "-X", "dev"]),
        (["python", "-Werror", "-Xdev", "manage.py"], ["-W", "error", "-X", "dev"]),
        (["python", "-BWerror", "manage.py"], ["-B", "-W", "error"]),
        (["python", "-BW", "error", "manage.py"], ["-B", "-W", "error"]),
        (["python", "-I", "-m", "django", "-B"], ["-I"]),
        (["python", "-um", "django", "runprod"], ["-u"]),
        (["python", "-c", "import x"], []),
        (["python", "-Ximporttime", "-"], ["-X", "importtime"]),
        (
            ["python", "--check-hash-based-pycs", "never", "manage.py"],
            ["--check-hash-based-pycs", "never"],
        ),
        (["python", "-W"], ["-W", ""]),
        (["python"], []),
    ],
)
def test_only_the_flags_of_the_interpreter_are_kept(argv: list[str], flags: list[str]) -> None:
    assert interpreter_flags(argv) == flags


def test_flags_that_were_found_are_understood_by_the_interpreter() -> None:
    probe = (
        "import sys; from django_wsgiserve.boot import interpreter_flags;"
        "print(*interpreter_flags(sys.orig_argv))"
    )
    given = [sys.executable, "-BuW", "ignore", "-Xutf8", "-c", probe]
    found = subprocess.run(given, capture_output=True, text=True, check=True).stdout.split()
    assert found == ["-Bu", "-W", "ignore", "-X", "utf8"]
    report = "import sys; print(sys.flags.dont_write_bytecode, sys.warnoptions, sys._xoptions)"
    assert (
        subprocess.run(
            [sys.executable, *found, "-c", report], capture_output=True, text=True, check=True
        ).stdout
        == "1 ['ignore'] {'utf8': True}\n"
    )


def test_supervisor_gets_the_package_from_where_it_is_and_no_directory_to_import_from() -> None:
    command = supervisor_command(7)
    assert command[0] == sys.executable
    assert "-P" in command
    package, fd = command[-2:]
    assert Path(package, "supervisor").is_dir()
    assert fd == "7"


def test_command_is_repeated_with_the_interpreter_by_its_full_name() -> None:
    assert same_command() == (sys.executable, *sys.orig_argv[1:])


def test_working_directory_keeps_the_name_it_was_entered_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "release-1"
    release.mkdir()
    current = tmp_path / "current"
    current.symlink_to(release)
    monkeypatch.chdir(current)
    assert logical_directory({"PWD": str(current)}) == str(current)
    assert logical_directory({"PWD": str(tmp_path)}) == str(release)
    assert logical_directory({"PWD": str(tmp_path / "gone")}) == str(release)
    assert logical_directory({"PWD": "."}) == str(release)
    assert logical_directory({}) == str(release)


def test_without_pwd_the_interpreter_tells_the_name_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under systemd, with a virtual environment in the release."""
    release = tmp_path / "release-1"
    release.mkdir()
    current = tmp_path / "current"
    current.symlink_to(release)
    monkeypatch.chdir(current)
    command = [str(current / ".venv/bin/python"), "manage.py", "runprod", "--pidfile", "/run/a.pid"]
    assert logical_directory({}, command) == str(current)
    assert logical_directory({}, [sys.executable, str(current / "manage.py")]) == str(current)
    assert logical_directory({}, [str(tmp_path / "venv/bin/python"), "manage.py"]) == str(release)
    assert logical_directory({"PWD": str(release)}, command) == str(release)


def test_only_a_descriptor_passed_on_to_be_written_counts_as_inherited(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    try:
        assert not is_inherited(write_end), "opened here"
        os.set_inheritable(write_end, True)
        assert is_inherited(write_end)
        os.set_inheritable(read_end, True)
        assert not is_inherited(read_end), "nobody can write to it"
    finally:
        os.close(read_end)
        os.close(write_end)
    assert not is_inherited(write_end), "closed"


def test_environment_is_the_one_the_process_was_started_with() -> None:
    code = (
        "import os; os.environ['LATE'] = '1'; del os.environ['EARLY'];"
        "from django_wsgiserve.boot import initial_environment as initial;"
        "print(initial() == {b'EARLY': b'a=b', b'EMPTY': b''})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"EARLY": "a=b", "EMPTY": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "True\n"


@pytest.mark.parametrize("written", [None, b"", b"python manage.py runprod", b"A=1\0title\0"])
def test_environment_that_cannot_be_read_is_the_present_one(
    tmp_path: Path, written: bytes | None
) -> None:
    if written is not None:
        (tmp_path / "environ").write_bytes(written)
    assert initial_environment(tmp_path) == dict(os.environb)


def test_first_of_two_variables_of_one_name_counts_as_it_does_for_getenv(tmp_path: Path) -> None:
    (tmp_path / "environ").write_bytes(b"A=1\0B=2\0A=3\0")
    assert initial_environment(tmp_path) == {b"A": b"1", b"B": b"2"}
