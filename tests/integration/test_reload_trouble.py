"""What served goes on serving at full strength, whatever the new code does."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration.conftest import RunServer
from tests.integration.held_request import ask_every_worker
from tests.integration.load_client import LoadClient
from tests.integration.test_reload import REFUSED_RELOAD

WAIT_FOR_FIFO = """
open({began!r}, "w").close()
open({go!r}, "r").close()
"""


class SlowImport:
    """Code that, imported, says so and waits for the test's word."""

    def __init__(self, directory: Path) -> None:
        self.began, self.go = directory / "import-began", directory / "import-go"
        os.mkfifo(self.began)
        os.mkfifo(self.go)

    @property
    def source(self) -> str:
        """The lines to add to a module."""
        return WAIT_FOR_FIFO.format(began=str(self.began), go=str(self.go))

    def wait_begun(self) -> None:
        """Block until the import has begun (the test's own time limit ends the wait)."""
        with self.began.open("rb") as fifo:
            fifo.read()

    def let_go(self) -> None:
        """Let it end."""
        self.go.open("wb").close()


@pytest.fixture
def slow_import(tmp_path: Path) -> SlowImport:
    return SlowImport(tmp_path)


def test_a_slow_import_is_waited_for_while_the_old_code_serves_at_full_strength(
    run_server: RunServer, slow_import: SlowImport
) -> None:
    server = run_server("-w", "2")
    workers, sound = server.workers(), server.project.read("demo/wsgi.py")
    server.project.append("demo/wsgi.py", slow_import.source)
    server.project.deploy("two")
    with LoadClient(server.address, clients=4) as load:
        server.send_signal(signal.SIGHUP)
        slow_import.wait_begun()
        load.wait_for_answers(100)
        assert server.workers() == workers
        assert set(load.tally.versions) == {"one"}
        slow_import.let_go()
        server.wait_until_gone(workers)
        load.wait_for_answers(20)
        tally = load.stop()
    assert not tally.lost, tally.examples
    assert server.whoami()["version"] == "two"
    server.project.write("demo/wsgi.py", sound)


def test_an_import_that_hangs_is_given_up_after_boot_timeout(
    run_server: RunServer, slow_import: SlowImport
) -> None:
    server = run_server("-w", "2", "--boot-timeout", "8")
    workers = server.workers()
    server.project.append("demo/wsgi.py", slow_import.source)
    server.send_signal(signal.SIGHUP)
    slow_import.wait_begun()  # before the load, which would make all that precedes it slow
    with LoadClient(server.address, clients=4) as load:
        server.log.wait_for(REFUSED_RELOAD)
        load.wait_for_answers(50)
        tally = load.stop()
    assert not tally.lost, tally.examples
    assert server.workers() == workers
    assert "demo/wsgi.py" in server.log.text, "the place where it hangs is not shown"
    server.log.wait_until(lambda: len(server.family()) == 4)


def test_a_stop_during_a_reload_ends_both_generations(
    run_server: RunServer, slow_import: SlowImport
) -> None:
    server = run_server("-w", "1")
    server.project.append("demo/wsgi.py", slow_import.source)
    server.send_signal(signal.SIGHUP)
    slow_import.wait_begun()
    assert server.stop() == 0
    assert not server.family()


def test_a_project_that_hangs_in_its_import_does_not_outlive_the_supervisor(
    run_server: RunServer, slow_import: SlowImport
) -> None:
    server = run_server("-w", "1")
    server.project.append("demo/wsgi.py", slow_import.source)
    server.send_signal(signal.SIGHUP)
    slow_import.wait_begun()
    family = [process.pid for process in server.family()]
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()
    server.wait_until_gone(family)


def test_a_worker_that_dies_during_a_reload_is_replaced_by_the_old_code(
    run_server: RunServer, slow_import: SlowImport
) -> None:
    server = run_server("-w", "2")
    workers = server.workers()
    server.project.append("demo/wsgi.py", slow_import.source)
    server.project.deploy("two")
    server.send_signal(signal.SIGHUP)
    slow_import.wait_begun()
    victim = min(workers)
    os.kill(victim, signal.SIGKILL)
    server.log.wait_until(lambda: len(server.workers() - workers) == 1)
    assert server.wait_for_workers(2) - workers
    assert server.whoami()["version"] == "one"
    slow_import.let_go()
    server.log.wait_until(lambda: server.whoami()["version"] == "two")


def test_a_worker_is_replaced_while_the_code_on_disk_is_broken(run_server: RunServer) -> None:
    server = run_server("-w", "2")
    workers = server.workers()
    server.project.write("demo/urls.py", "urlpatterns = [\n")
    server.project.write("demo/wsgi.py", "application = [\n")
    server.project.write("demo/settings.py", "import demo.nowhere\n")
    os.kill(min(workers), signal.SIGKILL)
    server.log.wait_until(lambda: len(server.workers() - workers) == 1)
    with LoadClient(server.address, clients=4) as load:
        load.wait_for_answers(100)
        tally = load.stop()
    assert not tally.lost, tally.examples
    assert server.wait_for_workers(2) == ask_every_worker(server, "/whoami", 2).keys()


def test_the_forkserver_dies_while_the_code_on_disk_is_broken(run_server: RunServer) -> None:
    server = run_server("-w", "2")
    workers = server.workers()
    sound = server.project.read("demo/wsgi.py")
    server.project.write("demo/wsgi.py", "application = [\n")
    with LoadClient(server.address, clients=4) as load:
        os.kill(server.forkserver(), signal.SIGKILL)
        server.log.wait_for("SyntaxError")
        load.wait_for_answers(100)
        assert server.workers() == workers, "a worker that served was given up"
        server.project.write("demo/wsgi.py", sound)
        server.reload()
        load.wait_for_answers(20)
        tally = load.stop()
    assert not tally.lost, tally.examples


def test_problems_of_the_new_settings_are_listed_in_lines(run_server: RunServer) -> None:
    server = run_server("-w", "1")
    server.project.configure(WORKRES=2, TIMEOUT="soon")
    server.send_signal(signal.SIGHUP)
    server.log.wait_for(REFUSED_RELOAD)
    server.log.wait_for("'soon'")
    assert "\\n" not in server.log.text, server.log.text
    assert server.whoami()["version"] == "one"
