"""From `manage.py runprod` to the first answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.conftest import RefuseServer, RunServer
from tests.integration.processes import memory_contains, read_process
from tests.integration.project_copy import ProjectCopy
from tests.integration.running_server import READY_S, STOP_S, Output

DJANGO_CODE = b"django/db/models/base.py"
"""In the memory of every process that has imported Django's models: the file of their code."""


def test_the_ready_line_comes_when_the_first_answer_can(run_server: RunServer) -> None:
    server = run_server("-w", "1", "--bind", "127.0.0.1:0", "--bind", "localhost:0")
    assert len(server.addresses) == 2
    assert server.get("/hello?token=first").body.startswith(b"first one ")


def test_the_pid_stays_the_same_when_the_command_becomes_the_supervisor(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "1")
    worker = read_process(server.whoami()["pid"])
    assert worker is not None
    forkserver = read_process(worker.parent)
    assert forkserver is not None
    assert forkserver.parent == server.process.pid


def test_the_supervisor_has_not_imported_django_and_the_worker_has(run_server: RunServer) -> None:
    server = run_server("-w", "1")
    assert memory_contains(server.whoami()["pid"], DJANGO_CODE)
    assert not memory_contains(server.pid, DJANGO_CODE)
    libraries = Path(f"/proc/{server.pid}/maps").read_text()
    assert "_sqlite3" not in libraries


def test_every_process_says_what_it_is_in_its_title(
    run_server: RunServer, project: ProjectCopy
) -> None:
    server = run_server("-w", "2", "--proc-name", "bookshop")
    titles = sorted(process.title for process in server.family())
    assert len(titles) == 4
    assert all("bookshop" in title for title in titles), titles
    roles = ["forkserver", "supervisor", "worker", "worker"]
    assert sorted(r for title in titles for r in set(roles) if r in title) == roles


def test_the_banner_is_short_and_says_where_and_how(
    run_server: RunServer, worker_class: str
) -> None:
    server = run_server("-w", "2")
    server.log.wait_for(r"(?i)ready")
    banner = server.log.text
    host, port = server.host_and_port
    assert f"http://{host}:{port}" in banner
    assert "Django" in banner
    assert f"2 {worker_class}" in banner
    assert len(banner.splitlines()) <= 12, banner


def test_the_pidfile_holds_the_pid_while_the_server_runs_and_is_gone_after(
    run_server: RunServer, tmp_path: Path
) -> None:
    pidfile = tmp_path / "server.pid"
    server = run_server("-w", "1", "--pidfile", str(pidfile))
    assert pidfile.read_text().strip() == str(server.pid)
    assert server.stop() == 0
    assert not pidfile.exists()


def test_a_pidfile_left_by_a_dead_server_is_taken_over(
    run_server: RunServer, tmp_path: Path
) -> None:
    pidfile = tmp_path / "server.pid"
    pidfile.write_text(f"{os.getpid()}\n")  # lives, but is no server that holds the lock
    server = run_server("-w", "1", "--pidfile", str(pidfile))
    assert pidfile.read_text().strip() == str(server.pid)


def test_a_pidfile_of_a_living_server_is_refused_with_its_pid(
    run_server: RunServer, refuse_server: RefuseServer, tmp_path: Path
) -> None:
    pidfile = tmp_path / "server.pid"
    first = run_server("-w", "1", "--pidfile", str(pidfile))
    second = refuse_server("-w", "1", "--pidfile", str(pidfile))
    assert second.exit_code != 0
    assert str(first.pid) in second.output
    assert not second.survivors
    assert pidfile.read_text().strip() == str(first.pid)
    assert first.get("/hello").status == 200


def test_the_server_starts_from_another_directory_and_by_a_relative_path(
    run_server: RunServer, project: ProjectCopy
) -> None:
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "project/manage.py", "runprod", "--bind", "127.0.0.1:0", "-w", "1",
         "--ready-fd", str(write_end)],
        cwd=project.directory.parent,
        env=project.environment(),
        pass_fds=[write_end],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    os.close(write_end)
    assert process.stderr is not None
    log = Output(process.stderr)
    with os.fdopen(read_end, "rb") as pipe:
        line = pipe.readline()
    process.send_signal(signal.SIGTERM)
    code = process.wait(STOP_S)
    assert line, log.drain()
    assert code == 0, log.drain()


def test_a_server_asked_to_stop_while_it_boots_leaves_nothing(
    project: ProjectCopy, tmp_path: Path
) -> None:
    fifo = tmp_path / "import-began"
    os.mkfifo(fifo)
    project.append("demo/wsgi.py", f"\nopen({str(fifo)!r}, 'w').close()\nimport select\n")
    project.append("demo/wsgi.py", "select.select([], [], [], 60)\n")
    process = subprocess.Popen(
        [sys.executable, "manage.py", "runprod", "--bind", "127.0.0.1:0"],
        cwd=project.directory,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    log = Output(process.stderr)
    with fifo.open("rb") as began:
        began.read()
    process.send_signal(signal.SIGTERM)
    code = process.wait(READY_S)
    text = log.drain()  # ends with the last process that could write to it
    assert code == 0, text
