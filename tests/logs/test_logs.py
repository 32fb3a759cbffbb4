"""The logs of a process, from its events to its files."""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from django_wsgiserve.config import ServerConfig
from django_wsgiserve.errors import ConfigError
from django_wsgiserve.events import AppFailed, Event, EventBus, RequestFinished, RequestRejected
from django_wsgiserve.logs import SERVER_LOGGER_NAME, Logs, open_logs
from django_wsgiserve.logs.records import LogRecord, renderer
from django_wsgiserve.logs.times import COMMON_LOG_TIMES
from tests.logs.devices import lines_of
from tests.logs.sample_events import STARTED_AT_S, finished, head, raised


class Opened:
    """Logs on files in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.access_path = directory / "access.log"
        self.server_path = directory / "server.log"
        self.events = EventBus()
        self.logs: Logs | None = None

    def open(self, *, role: str = "worker", **changes: Any) -> Logs:
        """Open the logs; `changes` are settings or arguments of `open_logs`."""
        arguments = {
            name: changes.pop(name)
            for name in ("access_logger", "server_logger")
            if name in changes
        }
        settings: dict[str, Any] = {
            "access_logfile": str(self.access_path),
            "error_logfile": str(self.server_path),
            **changes,
        }
        self.logs = open_logs(ServerConfig(**settings), self.events, role=role, **arguments)
        return self.logs

    def access_lines(self) -> list[bytes]:
        """Return what the access log has after a flush."""
        assert self.logs is not None
        self.logs.flush()
        return lines_of(self.access_path)

    def server_records(self) -> list[dict[str, Any]]:
        """Return what the operations log has, which is JSON."""
        return [json.loads(line) for line in lines_of(self.server_path)]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    opened = Opened(tmp_path)
    yield opened
    if opened.logs is not None:
        opened.logs.close()


def test_request_is_one_line_of_the_access_log(opened: Opened) -> None:
    logs = opened.open()
    opened.events.emit(finished())
    opened.events.emit(finished(request=None, request_line="\x16\x03\x01", status=400))
    assert logs.pending
    assert [json.loads(line)["status"] for line in opened.access_lines()] == [200, 400]
    assert not logs.pending


@pytest.fixture
def nepal() -> Iterator[None]:
    """Make this process's zone one that is 5:45 h from UTC, as Django does with TIME_ZONE."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "NPT-5:45")
        time.tzset()
        COMMON_LOG_TIMES.clear()
        yield
    time.tzset()
    COMMON_LOG_TIMES.clear()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_operations_are_told_in_utc_whatever_the_zone_of_the_process(
    opened: Opened, nepal: None, log_format: str
) -> None:
    before = datetime.datetime.now(datetime.UTC)
    opened.open(log_format=log_format)
    opened.events.notice(logging.WARNING, "told")
    [line] = lines_of(opened.server_path)
    shown = re.search(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line)
    assert shown is not None, line
    at = datetime.datetime.fromisoformat(shown[0].decode())
    millisecond = datetime.timedelta(milliseconds=1)
    assert before - millisecond <= at <= datetime.datetime.now(datetime.UTC) + millisecond


@pytest.mark.parametrize(
    ("on_terminal", "at"), [(True, "14:13:19Z"), (False, "2026-09-21T14:13:19.250Z")]
)
def test_a_terminal_is_told_the_time_of_day_only(nepal: None, on_terminal: bool, at: str) -> None:
    record = LogRecord(level=logging.INFO, message="told", role="worker", at_s=STARTED_AT_S, pid=7)
    line = renderer("text", on_terminal=on_terminal)(record)
    assert line.decode() == f"{at} INFO     worker[7] told\n"


def test_time_of_a_format_string_is_in_the_zone_of_the_process(opened: Opened, nepal: None) -> None:
    opened.open(access_log_format="%(t)s")
    opened.events.emit(finished())
    assert opened.access_lines() == [b"[21/Sep/2026:19:58:19 +0545]"]


def test_format_string_is_what_the_line_looks_like(opened: Opened) -> None:
    opened.open(access_log_format="%(m)s %(s)s")
    opened.events.emit(finished())
    assert opened.access_lines() == [b"GET 200"]


def test_access_log_is_off_when_it_has_no_file(opened: Opened) -> None:
    logs = opened.open(access_logfile="", access_logger=logging.getLogger("elsewhere"))
    opened.events.emit(finished())
    assert not logs.pending
    assert not opened.access_path.exists()


def test_wrong_format_is_a_config_error(opened: Opened) -> None:
    with pytest.raises(ConfigError, match=r"ACCESS_LOG_FORMAT: %\(R\)s .* did you mean %\(r\)s"):
        opened.open(access_log_format="%(R)s")


def test_line_costs_few_calls_and_the_empty_flush_none_further(opened: Opened) -> None:
    logs = opened.open(access_log_format="combined")
    opened.events.emit(finished())
    logs.flush()
    [observe] = opened.events._observers[RequestFinished]
    event = finished()
    calls: list[object] = []

    def count(_frame: object, kind: str, argument: object) -> None:
        if kind in ("call", "c_call"):
            calls.append(argument)

    previous = sys.getprofile()
    sys.setprofile(count)
    observe(event)
    sys.setprofile(previous)
    assert len(calls) <= 3
    logs.flush()
    calls.clear()
    sys.setprofile(count)
    logs.flush()
    sys.setprofile(previous)
    assert len(calls) <= 3


def test_notice_is_in_the_operations_log_at_once(opened: Opened) -> None:
    opened.open()
    opened.events.notice(logging.WARNING, "worker 3 is slow", "line\nline", slot=3)
    [record] = opened.server_records()
    assert record.pop("time").endswith("Z")
    assert record == {
        "logger": "django_wsgiserve.server",
        "level": "warning",
        "role": "worker",
        "pid": os.getpid(),
        "message": "worker 3 is slow",
        "detail": "line\nline",
        "fields": {"slot": 3},
    }


@pytest.mark.parametrize(("log_level", "count"), [("debug", 2), ("info", 1), ("error", 0)])
def test_log_level_is_respected(opened: Opened, log_level: str, count: int) -> None:
    opened.open(log_level=log_level)
    opened.events.notice(logging.DEBUG, "debugging")
    opened.events.notice(logging.INFO, "informing")
    assert len(opened.server_records()) == count


def test_text_record_cannot_be_forged(opened: Opened) -> None:
    opened.open(log_format="text")
    opened.events.notice(logging.ERROR, "bad\n2026 \x1b[31mred\u2028", "  one\n\ttwo\r\x07")
    lines = opened.server_path.read_text(encoding="utf-8").split("\n")
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ERROR    worker\[\d+\] "
    assert re.fullmatch(stamp + r"bad\\n2026 \\x1b\[31mred\\u2028", lines[0])
    assert lines[1:3] == ["      one", "            two"]
    assert lines[3:] == [r"    \x07", ""]


def test_failed_application_is_logged_with_its_request_and_one_traceback(opened: Opened) -> None:
    opened.open()
    error = raised(ValueError("no such book"))
    opened.events.emit(AppFailed(request=head(), summary="the application raised", exception=error))
    [record] = opened.server_records()
    assert record["level"] == "error"
    assert "GET /books/caf%C3%A9?page=2 HTTP/1.1" in record["message"]
    assert record["detail"].count("ValueError: no such book") == 1
    assert record["detail"].startswith("Traceback")


def test_failure_without_exception_has_no_detail(opened: Opened) -> None:
    opened.open()
    opened.events.emit(AppFailed(request=head(), summary="start_response uncalled", exception=None))
    [record] = opened.server_records()
    assert "detail" not in record


def test_refused_requests_are_named_up_to_a_number_and_then_counted(opened: Opened) -> None:
    logs = opened.open()
    for _ in range(500):
        opened.events.emit(RequestRejected(peer="192.0.2.9", status=400, reason="not HTTP\r\n"))
    assert logs.pending
    logs.close()
    records = opened.server_records()
    assert {record["level"] for record in records} == {"info"}
    named = [record for record in records if "suppressed" not in record["fields"]]
    counted = [record["fields"]["suppressed"] for record in records if record not in named]
    assert named[0]["fields"] == {"peer": "192.0.2.9", "status": 400, "reason": "not HTTP\r\n"}
    assert len(named) + sum(counted) == 500
    assert len(records) < 100


def test_refused_requests_cost_nothing_when_the_level_is_higher(opened: Opened) -> None:
    logs = opened.open(log_level="warning")
    for _ in range(50):
        opened.events.emit(RequestRejected(peer="192.0.2.9", status=400, reason="not HTTP"))
    assert not logs.pending
    assert opened.server_records() == []


def test_both_files_are_reopened(opened: Opened, tmp_path: Path) -> None:
    logs = opened.open()
    opened.events.emit(finished())
    opened.events.notice(logging.INFO, "before")
    opened.access_path.rename(tmp_path / "access.log.1")
    opened.server_path.rename(tmp_path / "server.log.1")
    logs.reopen()
    opened.events.emit(finished())
    opened.events.notice(logging.INFO, "after")
    assert len(opened.access_lines()) == len(lines_of(tmp_path / "access.log.1")) == 1
    assert [record["message"] for record in opened.server_records()] == ["after"]


def test_access_log_that_fails_is_reported_in_the_operations_log(opened: Opened) -> None:
    logs = opened.open(access_logfile="/dev/full")
    opened.events.emit(finished())
    logs.flush()
    opened.events.emit(finished())
    logs.flush()
    [record] = opened.server_records()
    assert record["message"].startswith("cannot write the access log (/dev/full): No space left")
    assert logs.pending


def test_operations_log_that_fails_says_so_when_it_works_again(
    opened: Opened, tmp_path: Path
) -> None:
    logs = opened.open(error_logfile=str(tmp_path / "missing" / "server.log"))
    opened.events.notice(logging.INFO, "hello")
    assert logs.pending
    (tmp_path / "missing").mkdir()
    logs.close()
    messages = [json.loads(line)["message"] for line in lines_of(tmp_path / "missing/server.log")]
    assert messages[0].startswith("cannot write the operations log")
    assert messages[1:] == ["hello"]


def test_lines_that_nobody_took_are_counted_in_the_log_they_are_missing_from(
    opened: Opened, tmp_path: Path
) -> None:
    path = tmp_path / "missing" / "access.log"
    logs = opened.open(access_logfile=str(path), access_log_format="json")
    for _ in range(4000):  # more than a mebibyte
        opened.events.emit(finished())
    path.parent.mkdir()
    logs.close()
    records = [json.loads(line) for line in lines_of(path)]
    dropped = records[-1]["fields"]["dropped_lines"]
    assert dropped > 0
    assert len(records) - 1 + dropped == 4000
    assert (records[-1]["logger"], records[-1]["level"]) == ("django_wsgiserve.access", "warning")


def test_worker_serves_although_its_log_cannot_be_opened(opened: Opened, tmp_path: Path) -> None:
    logs = opened.open(access_logfile=str(tmp_path / "missing" / "access.log"))
    opened.events.emit(finished())
    logs.flush()
    assert "No such file" in opened.server_records()[0]["message"]
    (tmp_path / "missing").mkdir()
    logs.close()
    assert len(lines_of(tmp_path / "missing" / "access.log")) == 1


def test_supervisor_refuses_files_that_cannot_be_opened(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        opened.open(role="supervisor", access_logfile="/nowhere/a", error_logfile=str(tmp_path))
    assert "ACCESS_LOGFILE" in str(caught.value)
    assert "ERROR_LOGFILE" in str(caught.value)


def test_supervisor_has_no_access_log(opened: Opened) -> None:
    logs = opened.open(role="supervisor")
    opened.events.emit(finished())
    assert not logs.pending


def test_standard_streams_are_the_default(capfd: pytest.CaptureFixture[str]) -> None:
    events = EventBus()
    logs = open_logs(ServerConfig(), events, role="worker")
    events.emit(finished())
    events.notice(logging.INFO, "hello")
    logs.close()
    out, err = capfd.readouterr()
    assert json.loads(out)["path"] == "/books/caf%C3%A9"
    assert json.loads(err)["message"] == "hello"


def test_failing_observer_is_in_the_operations_log(opened: Opened) -> None:
    logger = logging.getLogger(SERVER_LOGGER_NAME)
    held = list(logging.root.handlers)
    for handler in held:  # pytest's own
        logging.root.removeHandler(handler)
    try:
        logs = opened.open()
        assert logging.root.handlers == []

        def fail(_event: Event) -> None:
            raise LookupError("observer broke")

        opened.events.subscribe(RequestFinished, fail)
        opened.events.emit(finished())
        logs.close()
    finally:
        for handler in held:
            logging.root.addHandler(handler)
    [record] = opened.server_records()
    assert "RequestFinished" in record["message"]
    assert "LookupError: observer broke" in record["detail"]
    assert logger.handlers == []


def test_opening_does_not_touch_the_root_logger_or_the_default_timeout(opened: Opened) -> None:
    root = list(logging.root.handlers), logging.root.level
    opened.open()
    opened.events.notice(logging.INFO, "hello")
    assert (list(logging.root.handlers), logging.root.level) == root
    assert socket.getdefaulttimeout() is None
