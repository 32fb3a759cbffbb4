"""A line for every request, and no log target that could stop the serving."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import RunServer
from tests.integration.load_client import LoadClient
from tests.integration.project_copy import ProjectCopy
from tests.integration.running_server import RunningServer
from tests.integration.wire import Wire

COMBINED = re.compile(
    r'127\.0\.0\.1 - - \[[^\]]+\] "GET /hello\?token=combined HTTP/1\.1" 200 \d+ "a\\"b" "probe/1"'
)
MANY = 6000
"""Requests whose lines exceed every buffer on the way: 1 MiB held and the pipe's 64 KiB."""


@pytest.fixture
def unread_pipe() -> Iterator[tuple[int, int]]:
    """Return the ends of a pipe that nobody reads, until the test does."""
    read_end, write_end = os.pipe()
    yield read_end, write_end
    os.close(read_end)
    os.close(write_end)


def ask_many(server: RunningServer, count: int) -> None:
    """Make `count` requests over one connection, each with a long line in the log."""
    padding = "p" * 300
    with server.connect() as wire:
        for number in range(count):
            answer = wire.request("GET", f"/raw/count?{number}&{padding}")
            assert answer.status == 200


def test_a_combined_line_says_who_asked_what_and_got_what(site: RunningServer) -> None:
    site.get("/hello?token=combined", 'Referer: a"b', "User-Agent: probe/1")
    line = site.access.wait_for("token=combined.*\n")
    assert COMBINED.fullmatch(line.rstrip("\n")), line


def test_a_client_cannot_write_lines_of_its_own(site: RunningServer) -> None:
    site.get("/hello?token=escaped", 'User-Agent: a\\b\xff\x1b[31m"')
    line = site.access.wait_for("token=escaped.*\n")
    assert "\x1b" not in line
    assert line.rstrip("\n").isascii()


def test_lines_are_json_where_nobody_watches(run_server: RunServer) -> None:
    server = run_server("-w", "1")
    server.get("/hello?token=json", 'User-Agent: "quoted"')
    line = json.loads(server.access.wait_for("token=json.*\n"))
    assert line["method"] == "GET"
    assert line["path"] == "/hello"
    assert line["status"] == 200
    assert line["user_agent"] == '"quoted"'
    assert line["aborted"] is False


def test_each_log_has_one_clock_whatever_the_project_says(
    run_server: RunServer, project: ProjectCopy
) -> None:
    project.append("demo/settings.py", '\nTIME_ZONE = "Asia/Kathmandu"\n')
    server = run_server("-w", "1", "--access-log-format", "%(t)s %(q)s")
    server.get("/hello?token=zone")
    line = server.access.wait_for(".*token=zone.*\n")
    assert re.fullmatch(r"\[[^\]]* \+0545\] token=zone\n?", line)
    with server.connect() as wire:
        wire.send(b"GET /not-http\r\n\r\n")
        server.log.wait_for("refused a request")
    times = {
        role: re.findall(rf"(?m)^(\S+) \w+ +{role}\b.*\[", server.log.text)
        for role in ("supervisor", "worker")
    }
    for role, found in times.items():
        assert found, role
        assert all(re.fullmatch(r"[-\d]{10}T[:\d]{8}\.\d{3}Z", at) for at in found), found


def test_gunicorns_format_strings_are_understood(run_server: RunServer) -> None:
    server = run_server(
        "-w", "1", "--access-log-format", "%(m)s|%(U)s|%(q)s|%(s)s|%(B)s|%({x-id}i)s"
    )
    answer = server.get("/hello?token=format", "X-Id: seven")
    line = server.access.wait_for("token=format.*\n")
    assert line.rstrip("\n") == f"GET|/hello|token=format|200|{len(answer.body)}|seven"


def test_every_request_has_its_line(run_server: RunServer) -> None:
    server = run_server("-w", "2")
    with LoadClient(server.address, clients=4) as load:
        load.wait_for_answers(500)
        tally = load.stop()
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.access.drain().splitlines()]
    asked = [line["query"] for line in lines if line["path"] == "/hello"]
    assert len(asked) == tally.answered
    assert len(set(asked)) == tally.answered


def test_the_access_log_can_be_turned_off(run_server: RunServer) -> None:
    server = run_server("-w", "1", "--access-logfile", "off")
    assert server.get("/hello").status == 200
    assert server.stop() == 0
    assert server.access.drain() == ""


def test_the_projects_logging_receives_what_it_names(
    run_server: RunServer, project: ProjectCopy, tmp_path: Path
) -> None:
    access, operations = tmp_path / "django-access.log", tmp_path / "django-server.log"
    project.append("demo/settings.py", f"""
LOGGING = {{
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {{
        "access": {{"class": "logging.FileHandler", "filename": {str(access)!r}}},
        "server": {{"class": "logging.FileHandler", "filename": {str(operations)!r}}},
    }},
    "loggers": {{
        "django_wsgiserve.access": {{"handlers": ["access"], "level": "INFO"}},
        "django_wsgiserve.server": {{"handlers": ["server"], "level": "INFO"}},
    }},
}}
""")  # fmt: skip
    server = run_server("-w", "1")
    server.get("/hello?token=through-django")
    server.get("/raw/system-exit")
    server.log.wait_until(lambda: "token=through-django" in access.read_text())
    server.log.wait_until(lambda: "system-exit" in operations.read_text())


def test_a_reader_that_stops_reading_never_stops_the_serving(
    run_server: RunServer, unread_pipe: tuple[int, int]
) -> None:
    read_end, write_end = unread_pipe
    server = run_server("-w", "1", stdout=write_end)
    ask_many(server, MANY)
    os.set_blocking(read_end, False)
    text = ""

    def is_counted() -> bool:
        nonlocal text
        server.get("/hello?token=again")
        try:
            text += os.read(read_end, 1 << 20).decode()
        except BlockingIOError:
            return False
        return (
            re.search(r"(?i)\d+ (access )?(log )?lines?.*(dropped|lost)|dropped.*\d+", text)
            is not None
        )

    server.log.wait_until(is_counted)


def test_a_reader_that_is_gone_never_stops_the_serving(
    run_server: RunServer, project: ProjectCopy
) -> None:
    read_end, write_end = os.pipe()
    server = run_server("-w", "2", stdout=write_end)
    os.close(write_end)
    os.close(read_end)
    workers = server.workers()
    ask_many(server, 200)
    server.project.deploy("two")
    server.reload()
    assert server.whoami()["version"] == "two"
    assert not server.workers() & workers


def test_standard_error_that_nobody_reads_never_stops_the_serving(
    run_server: RunServer, unread_pipe: tuple[int, int]
) -> None:
    _, write_end = unread_pipe
    server = run_server("-w", "1", stderr=write_end)
    for _ in range(300):  # a traceback each
        assert server.get("/raise").status == 500
    server.project.deploy("two")
    server.reload()
    assert server.whoami()["version"] == "two"
    assert server.stop() == 0


def test_a_full_disk_never_stops_the_serving_and_is_reported(run_server: RunServer) -> None:
    server = run_server("-w", "1", "--access-logfile", "/dev/full")
    ask_many(server, 200)
    server.log.wait_for("(?i)no space left")
    assert server.stop() == 0


def test_an_operations_log_on_a_full_disk_never_stops_the_serving(run_server: RunServer) -> None:
    server = run_server("-w", "1", "--error-logfile", "/dev/full")
    assert server.get("/raise").status == 500
    server.project.deploy("two")
    server.reload()
    assert server.whoami()["version"] == "two"
    assert server.stop() == 0


def test_an_aborted_client_is_seen_as_such(run_server: RunServer) -> None:
    server = run_server("-w", "1")
    with Wire(server.address) as wire:
        wire.send(b"GET /large?bytes=60000000&aborted-one HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wire.socket.recv(1000)
        wire.reset()
    line = json.loads(server.access.wait_for("aborted-one.*\n"))
    assert line["aborted"] is True
    assert line["sent_bytes"] < 60_000_000


def test_a_project_that_prints_to_nobody_is_served(
    run_server: RunServer, project: ProjectCopy
) -> None:
    project.append("demo/wsgi.py", '\nprint("loaded")\n')
    read_end, write_end = os.pipe()
    os.close(read_end)
    # Buffered: what was printed is written when a worker is forked.
    server = run_server("-w", "1", stdout=write_end, environment={"PYTHONUNBUFFERED": ""})
    os.close(write_end)
    assert server.get("/hello").status == 200


def test_a_server_without_standard_streams_serves(run_server: RunServer) -> None:
    server = run_server("-w", "1", prefix=("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))
    assert server.get("/hello").status == 200
