"""What an operator sees when the server is ready."""

from __future__ import annotations

import json
import logging
import os
import pty
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsgiserve.config import ServerConfig
from django_wsgiserve.events import EventBus
from django_wsgiserve.logs import open_logs
from django_wsgiserve.logs.banner import MOST_LINES, BannerValues, render
from tests.logs.devices import read_until


def values(**changes: Any) -> BannerValues:
    return BannerValues(
        **{
            "server_version": "0.1.0",
            "django_version": "5.2.7",
            "python_version": "3.13.1",
            "settings_module": "library.settings",
            "workers": 5,
            "workers_reason": "2 CPUs x 2 + 1",
            "worker_class": "sync",
            "urls": ("http://127.0.0.1:8000/",),
            "checks": "no problems",
            "ready_s": 0.412,
            "pid": 4711,
            **changes,
        }
    )


def test_banner_says_everything() -> None:
    assert render(values(notes=("DEBUG is on",))) == [
        "django-wsgiserve 0.1.0, Django 5.2.7, Python 3.13.1",
        "  settings   library.settings",
        "  workers    5 sync (2 CPUs x 2 + 1)",
        "  listening  http://127.0.0.1:8000/",
        "  checks     no problems",
        "  note       DEBUG is on",
        "  ready in 0.41 s, pid 4711",
    ]


def test_what_does_not_fit_is_counted() -> None:
    urls = tuple(f"http://127.0.0.1:{port}/" for port in range(8000, 8010))
    lines = render(values(urls=urls, notes=("one", "two", "three")))
    assert len(lines) == MOST_LINES
    assert "and 5 more" in lines[8]
    assert "and 3 more" in lines[10]


texts = st.lists(st.text(max_size=20), max_size=20).map(tuple)


@given(texts, texts)
def test_banner_is_never_longer_than_twelve_lines(
    urls: tuple[str, ...], notes: tuple[str, ...]
) -> None:
    lines = render(values(urls=urls, notes=notes))
    assert len(lines) <= 12
    assert not any("\n" in line for line in lines)


def test_banner_is_plain_lines_on_a_terminal() -> None:
    controller, terminal = pty.openpty()
    saved = os.dup(2)
    os.dup2(terminal, 2)
    try:
        logs = open_logs(ServerConfig(), EventBus(), role="supervisor")
        logs.write_banner(values())
        logs.close()
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(terminal)
    received = read_until(controller, b"pid 4711\r\n").decode()
    os.close(controller)
    assert received.split("\r\n")[:-1] == render(values())


@pytest.mark.parametrize("log_level", ["info", "warning"])
def test_banner_is_one_record_as_json(tmp_path: Path, log_level: str) -> None:
    path = tmp_path / "log"
    config = ServerConfig(error_logfile=str(path), log_level=log_level)
    logs = open_logs(config, EventBus(), role="supervisor")
    logs.write_banner(values())
    logs.close()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    if log_level == "warning":
        assert records == []
        return
    assert len(records) == 1
    assert records[0]["fields"]["urls"] == ["http://127.0.0.1:8000/"]
    assert records[0]["fields"]["workers"] == 5
    assert logging.getLevelName(logging.INFO).lower() == records[0]["level"]
