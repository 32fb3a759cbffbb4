"""The lines of the head that depend on the time."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import pytest

from django_wsgiserve.workers.clock import Clock


def test_the_lines_are_complete_and_name_the_server() -> None:
    clock = Clock(server_header=True)
    clock.tick(time.monotonic())
    date, server, end = clock.header_lines.split(b"\r\n")
    assert date.startswith(b"Date: ")
    assert date.endswith(b" GMT")
    assert server == b"Server: django-wsgiserve"
    assert end == b""


def test_the_server_is_not_named_where_it_should_not_be() -> None:
    clock = Clock(server_header=False)
    clock.tick(time.monotonic())
    assert clock.header_lines.count(b"\r\n") == 1


@pytest.mark.parametrize("wall_s", [0.0, 951_782_400.0, 1_700_000_000.75, 4_102_444_799.5])
def test_the_date_is_the_wall_clocks_second(wall_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: wall_s)
    clock = Clock(server_header=False)
    clock.tick(1000.25)
    date = parsedate_to_datetime(clock.header_lines.decode().removeprefix("Date: ").strip())
    assert date.timestamp() == int(wall_s)
    assert clock.wall_offset_s == wall_s - 1000.25
    assert clock.next_tick_s == 1000.25 + 1.0 - wall_s % 1.0, "when the second is over"


def test_a_new_clock_is_due() -> None:
    assert Clock(server_header=True).next_tick_s <= time.monotonic()
