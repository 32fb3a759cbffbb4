"""The pid file is held by a lock and not by the number in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from django_wsgiserve.errors import CheckRefused, ConfigError
from django_wsgiserve.supervisor.pidfile import Pidfile


def test_the_file_has_the_pid_and_is_gone_after_removal(tmp_path: Path) -> None:
    path = tmp_path / "site.pid"
    pidfile = Pidfile.create(path, 4711)
    assert path.read_text() == "4711\n"
    pidfile.remove()
    assert not path.exists()
    pidfile.remove()


def test_a_running_servers_file_is_refused_with_its_pid(tmp_path: Path) -> None:
    path = tmp_path / "site.pid"
    holder = Pidfile.create(path, 4711)
    with pytest.raises(CheckRefused, match="pid 4711"):
        Pidfile.create(path, 4712)
    assert path.read_text() == "4711\n"
    holder.remove()


def test_a_stale_file_is_replaced_even_if_its_pid_is_somebody_elses_by_now(tmp_path: Path) -> None:
    path = tmp_path / "site.pid"
    path.write_text("1\n and something longer than the new text")
    pidfile = Pidfile.create(path, 4711)
    assert path.read_text() == "4711\n"
    pidfile.remove()


def test_another_servers_file_at_the_same_path_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "site.pid"
    first = Pidfile.create(path, 4711)
    path.unlink()
    second = Pidfile.create(path, 4712)
    first.remove()
    assert path.read_text() == "4712\n"
    second.remove()


def test_a_path_that_cannot_be_written_is_the_operators_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        Pidfile.create(tmp_path / "missing" / "site.pid", 1)
