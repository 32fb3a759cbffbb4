"""Records on their way through the project's own LOGGING."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from django_wsgiserve.config import ServerConfig
from django_wsgiserve.events import AppFailed, EventBus
from django_wsgiserve.integration.logging import project_loggers
from django_wsgiserve.logs import Logs, open_logs
from tests.logs.devices import lines_of
from tests.logs.sample_events import finished, head, raised


class Collecting(logging.Handler):
    """Keeps the records, and their text as a formatter would make it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self.records.append(record)
        self.texts.append(self.format(record))


class Raising(logging.Handler):
    """A handler with a bug."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raise, which `logging` does not catch."""
        raise ConnectionError("log server is gone")


@pytest.fixture
def loggers() -> Iterator[tuple[logging.Logger, logging.Logger]]:
    """Give two loggers below one parent, and take their handlers away afterwards."""
    pair = (logging.getLogger("testing_logs.access"), logging.getLogger("testing_logs.server"))
    for logger in pair:
        logger.propagate = False
    yield pair
    for logger in (*pair, logging.getLogger("testing_logs")):
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)


def open_with(
    loggers: tuple[logging.Logger, logging.Logger], path: Path, **settings: Any
) -> tuple[Logs, EventBus]:
    events = EventBus()
    config = ServerConfig(error_logfile=str(path), **settings)
    logs = open_logs(
        config, events, role="worker", access_logger=loggers[0], server_logger=loggers[1]
    )
    return logs, events


def test_access_record_has_the_line_the_fields_and_the_identifiers(
    loggers: tuple[logging.Logger, logging.Logger], tmp_path: Path
) -> None:
    handler = Collecting()
    loggers[0].addHandler(handler)
    logs, events = open_with(loggers, tmp_path / "log")
    events.emit(finished())
    logs.close()
    [record] = handler.records
    assert record.levelno == logging.INFO
    assert handler.texts[0].endswith('"https://library.example/" "Mozilla/5.0 (X11; Linux x86_64)"')
    assert (vars(record)["status"], vars(record)["peer"]) == (200, "192.0.2.7")
    assert isinstance(record.args, dict)
    assert record.args["s"] == 200
    assert record.args["D"] == 1234567
    assert record.args["{Host}i"] == "library.example"
    assert record.args["{x-request-id}o"] == "4711"
    assert record.args["{X-Missing}i"] == "-"


@pytest.mark.parametrize(
    ("access_log_format", "expected"),
    [
        (
            "%(m)s %(s)s %({Host}i)s %({WSGI.url_scheme}e)s 100%%",
            "GET 200 library.example https 100%",
        ),
        ("%(s)d %(a).7s|%(m)5s", "200 Mozilla|  GET"),
    ],
)
def test_access_record_follows_the_format(
    loggers: tuple[logging.Logger, logging.Logger],
    tmp_path: Path,
    access_log_format: str,
    expected: str,
) -> None:
    handler = Collecting()
    loggers[0].addHandler(handler)
    logs, events = open_with(loggers, tmp_path / "log", access_log_format=access_log_format)
    events.emit(finished())
    logs.close()
    assert handler.texts == [expected]


def test_access_record_as_json_is_the_json_line(
    loggers: tuple[logging.Logger, logging.Logger], tmp_path: Path
) -> None:
    handler = Collecting()
    loggers[0].addHandler(handler)
    logs, events = open_with(loggers, tmp_path / "log", access_log_format="json")
    events.emit(finished())
    logs.close()
    assert json.loads(handler.texts[0])["path"] == "/books/caf%C3%A9"
    assert isinstance(handler.records[0].args, dict)


def test_access_record_is_escaped(
    loggers: tuple[logging.Logger, logging.Logger], tmp_path: Path
) -> None:
    handler = Collecting()
    loggers[0].addHandler(handler)
    logs, events = open_with(loggers, tmp_path / "log")
    events.emit(finished(request=head(headers={"user-agent": 'x"\r\nforged'})))
    logs.close()
    assert handler.texts[0].endswith(r'"x\"\x0d\x0aforged"')


@pytest.mark.parametrize(
    ("level", "parent_level", "count"),
    [
        (logging.NOTSET, logging.NOTSET, 1),
        (logging.INFO, logging.ERROR, 1),
        (logging.WARNING, logging.NOTSET, 0),
        (logging.NOTSET, logging.WARNING, 0),
    ],
)
def test_level_counts_where_the_project_set_one_and_the_root_does_not(
    loggers: tuple[logging.Logger, logging.Logger],
    tmp_path: Path,
    level: int,
    parent_level: int,
    count: int,
) -> None:
    handler = Collecting()
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
    logging.getLogger("testing_logs").setLevel(parent_level)
    logs, events = open_with(loggers, tmp_path / "log")
    events.emit(finished())
    events.notice(logging.INFO, "hello")
    logs.close()
    assert len(handler.records) == 2 * count


def test_own_level_counts_where_the_project_set_none(
    loggers: tuple[logging.Logger, logging.Logger], tmp_path: Path
) -> None:
    handler = Collecting()
    loggers[1].addHandler(handler)
    logs, events = open_with(loggers, tmp_path / "log", log_level="warning")
    events.notice(logging.INFO, "quiet")
    events.notice(logging.WARNING, "loud")
    logs.close()
    assert handler.texts == ["loud"]


def test_server_record_has_detail_and_fields(
    loggers: tuple[logging.Logger, logging.Logger], tmp_path: Path
) -> None:
    handler = Collecting()
    loggers[1].addHandler(handler)
    logs, events = open_with(loggers, tmp_path / "log")
    events.notice(logging.WARNING, "100% busy", "more", slot=3)
    logs.close()
    assert handler.texts == ["100% busy\nmore"]
    assert vars(handler.records[0])["fields"] == {"slot": 3}
    assert vars(handler.records[0])["role"] == "worker"
    assert lines_of(tmp_path / "log") == []


def test_failed_application_has_its_exception_once(
    loggers: tuple[logging.Logger, logging.Logger], tmp_path: Path
) -> None:
    handler = Collecting()
    loggers[1].addHandler(handler)
    logs, events = open_with(loggers, tmp_path / "log")
    expected = raised(ValueError("no such book"))
    events.emit(AppFailed(request=head(), summary="it raised", exception=expected))
    logs.close()
    [record] = handler.records
    assert record.exc_info is not None
    assert record.exc_info[1] is expected
    assert handler.texts[0].count("ValueError: no such book") == 1


def test_handler_that_raises_is_reported_once_and_stops_nothing(
    loggers: tuple[logging.Logger, logging.Logger], tmp_path: Path
) -> None:
    for logger in loggers:
        logger.addHandler(Raising())
    logs, events = open_with(loggers, tmp_path / "log")
    for _ in range(3):
        events.emit(finished())
        events.notice(logging.ERROR, "hello")
    logs.close()
    [line] = lines_of(tmp_path / "log")
    record = json.loads(line)
    assert (
        record["message"] == "a handler of the logger 'testing_logs.access' raised ConnectionError"
    )
    assert "log server is gone" in record["detail"]


NAMED = {"handlers": ["console"]}


@pytest.mark.parametrize(
    ("names", "access", "server"),
    [
        ({}, False, False),
        ({"django_wsgiserve.access": {"handlers": []}}, True, False),
        ({"django_wsgiserve.server": {}}, False, True),
        ({"django_wsgiserve": {}}, True, True),
        ({"django": {}, "": {}}, False, False),
    ],
)
def test_project_loggers_are_those_that_the_setting_names(
    names: dict[str, Any], access: bool, server: bool
) -> None:
    # Overriding the setting does not run dictConfig: only its text counts here.
    with override_settings(LOGGING={"version": 1, "loggers": names, "root": {}}):
        found = project_loggers()
    assert (found.access is not None, found.server is not None) == (access, server)


def test_handlers_added_by_code_count_too() -> None:
    logger = logging.getLogger("django_wsgiserve.access")
    handler = Collecting()
    logger.addHandler(handler)
    try:
        with override_settings(LOGGING_CONFIG=None, LOGGING={"loggers": {logger.name: {}}}):
            found = project_loggers()
    finally:
        logger.removeHandler(handler)
    assert (found.access, found.server) == (logger, None)


def test_setting_that_nobody_applies_does_not_count() -> None:
    setting: dict[str, Any] = {"loggers": {"django_wsgiserve.access": {}}}
    with override_settings(LOGGING_CONFIG=None, LOGGING=setting):
        assert project_loggers().access is None
