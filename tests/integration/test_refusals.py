"""What is wrong is said once, in plain words, with its exit code; and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import RefuseServer, RunServer
from tests.integration.project_copy import ProjectCopy
from tests.integration.running_server import Ended

USAGE, REFUSED, APP_FAILED = 2, 3, 4

BROKEN_WSGI = "from demo.nowhere import application\n"


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run") / "s.sock"


def assert_refused(ended: Ended, exit_code: int, *words: str) -> None:
    """Hold the refusal to its exit code, to `words` in its message, and to being quiet."""
    assert ended.exit_code == exit_code, ended.output
    for word in words:
        assert word in ended.output, f"{word!r} is missing in:\n{ended.output}"
    assert "django_wsgiserve/" not in ended.output, f"our own traceback:\n{ended.output}"
    assert not ended.survivors


def test_all_typos_of_the_settings_are_listed_at_once(
    project: ProjectCopy, refuse_server: RefuseServer
) -> None:
    project.configure(WORKRES=2, TIMEOUT="soon", KEEPALIVE=-1)
    ended = refuse_server()
    assert_refused(ended, USAGE, "WORKRES", "WORKERS", "TIMEOUT", "'soon'", "KEEPALIVE")
    assert "wsgiserve.E" in ended.output


def test_a_typo_of_the_settings_is_found_by_the_check_command(project: ProjectCopy) -> None:
    project.configure(WORKRES=2)
    checked = project.manage("check")
    assert checked.returncode != 0
    assert "WORKRES" in checked.stderr
    assert "did you mean" in checked.stderr
    assert "WORKERS" in checked.stderr


def test_a_sound_project_passes_the_check_command(project: ProjectCopy) -> None:
    project.configure(WORKERS=2, TIMEOUT="30s", LIMIT_REQUEST_BODY="300MiB")
    checked = project.manage("check")
    assert checked.returncode == 0, checked.stderr


def test_an_unknown_flag_is_a_usage_error(refuse_server: RefuseServer) -> None:
    assert_refused(refuse_server("--wrokers", "2"), USAGE, "--wrokers")


def test_a_bad_value_of_a_flag_names_the_flag(refuse_server: RefuseServer) -> None:
    assert_refused(refuse_server("--workers", "many"), USAGE, "workers", "many")


def test_a_bad_value_of_the_environment_names_the_variable(refuse_server: RefuseServer) -> None:
    ended = refuse_server(environment={"WSGISERVE_TIMEOUT": "soon"})
    assert_refused(ended, USAGE, "WSGISERVE_TIMEOUT", "soon")


def test_settings_without_a_wsgi_application_are_refused(
    project: ProjectCopy, refuse_server: RefuseServer
) -> None:
    project.append("demo/settings.py", "\nWSGI_APPLICATION = None\n")
    ended = refuse_server()
    assert_refused(ended, USAGE, "WSGI_APPLICATION")


def test_an_application_that_is_not_callable_is_refused(
    project: ProjectCopy, refuse_server: RefuseServer
) -> None:
    project.write("demo/wsgi.py", "application = 'not a function'\n")
    assert_refused(refuse_server(), APP_FAILED, "demo.wsgi", "'not a function'")


def test_an_application_that_is_not_there_is_refused(
    project: ProjectCopy, refuse_server: RefuseServer
) -> None:
    project.write("demo/wsgi.py", "app = None\n")
    assert_refused(refuse_server(), APP_FAILED, "demo.wsgi", "application")


def test_a_missing_module_names_the_file_and_the_line(
    project: ProjectCopy, refuse_server: RefuseServer, socket_path: Path
) -> None:
    project.write("demo/wsgi.py", "# a comment\n" + BROKEN_WSGI)
    ended = refuse_server("-b", f"unix:{socket_path}")
    assert_refused(ended, APP_FAILED, "demo.nowhere", "demo/wsgi.py", "2")
    assert not socket_path.exists()


def test_a_syntax_error_in_the_project_names_the_file_and_the_line(
    project: ProjectCopy, refuse_server: RefuseServer
) -> None:
    project.write("demo/wsgi.py", "a = 1\nb = (\n")
    assert_refused(refuse_server(), APP_FAILED, "demo/wsgi.py", "SyntaxError", "2")


def test_settings_that_do_not_load_are_reported_once_and_nothing_starts(
    project: ProjectCopy, refuse_server: RefuseServer
) -> None:
    project.append("demo/settings.py", "\nimport demo.nowhere\n")
    ended = refuse_server()
    assert ended.exit_code != 0
    assert "demo.nowhere" in ended.output
    assert not ended.survivors


def test_a_failing_system_check_of_the_project_refuses_to_serve_it(
    project: ProjectCopy, refuse_server: RefuseServer
) -> None:
    project.append(
        "notes/models.py",
        "\n\nclass Odd(models.Model):\n    text = models.CharField(max_length=-1)\n",
    )
    assert_refused(refuse_server(), REFUSED, "notes.Odd", "max_length")


def test_a_project_whose_front_page_fails_starts_and_is_said_to_be_unwell(
    project: ProjectCopy, run_server: RunServer
) -> None:
    views = project.read("demo/views.py").replace('HttpResponse("at home")', "HttpResponse(1 / 0)")
    project.write("demo/views.py", views)
    server = run_server("-w", "1")
    server.log.wait_for("ZeroDivisionError")
    server.log.wait_for("first worker answered its first request with 500")
    assert server.get("/hello").status == 200


def test_a_worker_that_dies_before_it_answers_is_reported_and_ends_the_boot(
    project: ProjectCopy, refuse_server: RefuseServer, socket_path: Path
) -> None:
    project.append("demo/wsgi.py", "\nos.register_at_fork(after_in_child=lambda: os._exit(9))\n")
    ended = refuse_server("-b", f"unix:{socket_path}", "-w", "2")
    assert ended.exit_code == APP_FAILED, ended.output
    assert "the project has loaded, but its first worker exited with code 9" in ended.output
    assert not ended.survivors
    assert not socket_path.exists()


def test_an_import_that_hangs_ends_the_boot_and_shows_where(
    project: ProjectCopy, refuse_server: RefuseServer
) -> None:
    project.append("demo/wsgi.py", "\nimport select\nselect.select([], [], [], 300)\n")
    ended = refuse_server("--boot-timeout", "3")
    assert ended.exit_code == APP_FAILED, ended.output
    assert "BOOT_TIMEOUT" in ended.output
    assert "demo/wsgi.py" in ended.output, "the place where it hangs is not shown"
    assert not ended.survivors


def test_a_database_without_migrations_is_refused_with_the_command_that_helps(
    tmp_path: Path, refuse_server: RefuseServer, socket_path: Path
) -> None:
    bare = ProjectCopy(tmp_path / "bare")
    ended = refuse_server("-b", f"unix:{socket_path}", project=bare)
    assert_refused(ended, REFUSED, "manage.py migrate")
    assert not socket_path.exists()


def test_a_pidfile_that_cannot_be_written_is_refused(refuse_server: RefuseServer) -> None:
    ended = refuse_server("--pidfile", "/proc/nowhere/server.pid")
    assert ended.exit_code in {USAGE, REFUSED, 5, 1}
    assert_refused(ended, ended.exit_code, "/proc/nowhere/server.pid")


def test_a_log_file_that_cannot_be_opened_is_refused(refuse_server: RefuseServer) -> None:
    ended = refuse_server("--access-logfile", "/proc/nowhere/access.log")
    assert ended.exit_code in {USAGE, REFUSED}, ended.output
    assert_refused(ended, ended.exit_code, "/proc/nowhere/access.log")


@pytest.mark.parametrize("fd", ["1", "7"])
def test_a_ready_descriptor_that_is_not_the_starters_is_refused(
    refuse_server: RefuseServer, fd: str
) -> None:
    assert_refused(refuse_server("--ready-fd", fd), USAGE, f"--ready-fd {fd} is")
