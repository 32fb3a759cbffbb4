"""What is gevent's own: patches before Django, greenlets for threads, ends for what is stuck."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.integration.conftest import RefuseServer, RunServer
from tests.integration.conftest import end as end_server
from tests.integration.held_request import Gate, HeldRequest
from tests.integration.project_copy import REPOSITORY, ProjectCopy
from tests.integration.running_server import Launch, RunningServer, start
from tests.integration.wire import Answer, Wire

USAGE, REFUSED = 2, 3

INSIDE = """

def inside(environ, start_response):
    import os, socket, threading
    start_response("200 OK", PLAIN)
    return [f"{socket.socket.__module__} {os.getppid()} {environ['wsgi.multithread']}".encode()]

RAW["inside"] = inside
"""


@pytest.fixture(params=["gevent"], scope="module")
def worker_class(request: pytest.FixtureRequest) -> str:
    """These tests run with one worker class."""
    return str(request.param)


@pytest.fixture
def serve(project: ProjectCopy) -> Iterator[Callable[..., RunningServer]]:
    """Return a function that starts a server whose worker class the settings decide."""
    started: list[RunningServer] = []

    def run(**launch: Any) -> RunningServer:
        options = ("--bind", "127.0.0.1:0", "-w", "1", "--log-format", "text")
        started.append(start(Launch(options=options, project=project, **launch)))
        return started[-1]

    yield run
    assert [end_server(server) for server in started] == [0] * len(started)


def inside(server: RunningServer) -> list[str]:
    """Return what the application sees: the class of sockets, its forkserver, multithread."""
    return server.get("/raw/inside").body.decode().split()


# -- before Django is imported -----------------------------------------------------------------


def test_sockets_are_patched_although_manage_py_imports_django_first(
    run_server: RunServer, project: ProjectCopy
) -> None:
    project.write(
        "manage.py", project.read("manage.py").replace("import os", "import django.db, os, socket")
    )
    project.append("demo/raw.py", INSIDE)
    server = run_server("-w", "1")
    assert inside(server) == ["gevent._socket3", str(server.forkserver()), "True"]


def test_a_reload_that_changes_the_worker_class_is_served_by_that_class(
    serve: Callable[..., RunningServer], project: ProjectCopy
) -> None:
    project.append("demo/raw.py", INSIDE)
    project.configure(WORKER_CLASS="sync")
    server = serve()
    assert inside(server) == ["socket", str(server.forkserver()), "False"]
    for worker_class, module in [("gevent", "gevent._socket3"), ("threads", "socket")]:
        project.configure(WORKER_CLASS=worker_class)
        server.reload()
        assert inside(server) == [module, str(server.forkserver()), "True"]
        server.reload()
        assert inside(server) == [module, str(server.forkserver()), "True"]


def test_settings_that_want_gevent_only_without_its_patches_are_refused(
    serve: Callable[..., RunningServer], project: ProjectCopy
) -> None:
    server = serve()
    project.append(
        "demo/settings.py",
        "\nimport socket\nif socket.socket.__module__ == 'socket':\n"
        "    WSGISERVE['WORKER_CLASS'] = 'gevent'\n",
    )
    server.send_signal(signal.SIGHUP)
    server.log.wait_for("WORKER_CLASS is not gevent where gevent has patched")
    assert server.get("/hello").status == 200


def early(project: ProjectCopy, text: str) -> dict[str, str]:
    """Return an environment in which Python runs `text` before anything else."""
    directory = project.directory / "early"
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": f"{directory}{os.pathsep}{REPOSITORY}"}


def test_a_module_that_was_imported_too_early_is_named(
    refuse_server: RefuseServer, project: ProjectCopy
) -> None:
    environment = early(project, "from socket import create_connection\n")
    ended = refuse_server("-w", "1", environment=environment)
    assert ended.exit_code == REFUSED, ended.output
    assert "sitecustomize (socket.create_connection)" in ended.output
    assert "Traceback" not in ended.output
    assert not ended.survivors


def test_a_reload_to_gevent_with_a_module_imported_too_early_changes_nothing(
    serve: Callable[..., RunningServer], project: ProjectCopy
) -> None:
    server = serve(environment=early(project, ""))
    early_code = project.directory / "early/sitecustomize.py"
    early_code.write_text("import threading\nlock = threading.Lock()\n")
    project.configure(WORKER_CLASS="gevent")
    server.send_signal(signal.SIGHUP)
    server.log.wait_for(r"sitecustomize \(a lock\)")
    assert server.get("/hello").status == 200
    early_code.write_text("")
    server.reload()
    assert server.get("/hello").status == 200


def test_without_gevent_the_message_says_what_to_install(
    refuse_server: RefuseServer, project: ProjectCopy
) -> None:
    environment = early(project, "import sys\nsys.modules['gevent'] = None\n")
    ended = refuse_server("-w", "1", environment=environment)
    assert ended.exit_code == USAGE, ended.output
    assert "pip install 'django-wsgiserve[gevent]'" in ended.output


# -- processes ---------------------------------------------------------------------------------

RUNS_COMMANDS = """
import os, subprocess
from django.http import HttpResponse

def run(request):
    return HttpResponse(subprocess.check_output(["echo", "from", "a", "view"]))
"""


def test_commands_run_while_loading_and_in_views_and_deaths_of_workers_are_noticed(
    run_server: RunServer, project: ProjectCopy
) -> None:
    project.append("demo/wsgi.py", "\nimport subprocess\nsubprocess.check_call(['true'])\n")
    project.append("demo/views.py", RUNS_COMMANDS)
    project.append("demo/urls.py", "\nurlpatterns.append(path('run', views.run))\n")
    server = run_server("-w", "1")
    for _ in range(2):
        assert server.get("/run").body == b"from a view\n"
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        server.wait_until_gone([worker])
        server.wait_for_workers(1)
        server.log.wait_for(rf"worker 0 \(pid {worker}\)")


def test_a_greenlet_that_calls_sys_exit_ends_only_itself(
    run_server: RunServer, project: ProjectCopy
) -> None:
    project.append(
        "demo/views.py",
        "\ndef leave(request):\n    import sys, threading\n"
        "    thread = threading.Thread(target=sys.exit, args=(3,))\n"
        "    thread.start()\n    thread.join()\n    return HttpResponse('still here')\n",
    )
    project.append("demo/urls.py", "\nurlpatterns.append(path('leave', views.leave))\n")
    server = run_server("-w", "1")
    workers = server.workers()
    for _ in range(3):
        assert server.get("/leave").body == b"still here"
    assert server.workers() == workers


# -- many at once ------------------------------------------------------------------------------


def test_as_many_requests_wait_side_by_side_as_there_are_greenlets(
    run_server: RunServer, gate: Gate
) -> None:
    server = run_server("-w", "1", "--greenlets", "30")
    with contextlib.ExitStack() as stack:
        held = [HeldRequest(stack.enter_context(server.connect()), gate) for _ in range(30)]
        one_more = stack.enter_context(server.connect())
        one_more.send(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        gate.release()
        assert one_more.receive().status == 200
        for request in held:
            outcome = request.result()
            assert isinstance(outcome, Answer)
            assert outcome.status == 200


def test_a_view_that_computes_all_the_time_leaves_turns_to_greenlets_that_waited(
    run_server: RunServer, gate: Gate
) -> None:
    server = run_server("-w", "1")
    with server.connect() as wire, server.connect() as busy:
        held = HeldRequest(wire, gate)
        for number in range(500):
            busy.send(b"GET /hello?token=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
        gate.release()
        outcome = held.result()
        assert isinstance(outcome, Answer)
        assert outcome.status == 200
        assert [busy.receive().status for _ in range(500)] == [200] * 500


# -- TIMEOUT -----------------------------------------------------------------------------------

PATIENT = """
def patient(request):
    import time
    from django_wsgiserve.errors import RequestTimedOut
    try:
        time.sleep(60)
    except RequestTimedOut as error:
        print("tidied up after", error, flush=True)
        if "again" in request.GET:
            time.sleep(60)
        raise
"""


@pytest.fixture
def patient(project: ProjectCopy) -> None:
    """Give the project a view that waits, and waits again when asked to."""
    project.append("demo/views.py", PATIENT)
    project.append("demo/urls.py", "\nurlpatterns.append(path('patient', views.patient))\n")


@pytest.mark.usefixtures("patient")
def test_a_request_over_timeout_gets_an_exception_and_its_worker_serves_on(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "1", "--greenlets", "1", "--timeout", "1")
    workers = server.workers()
    assert server.get("/patient").status == 503
    told = server.log.wait_for(r"ran longer than TIMEOUT \(1 s\).*RequestTimedOut")
    assert "GET /patient (demo.views.patient)" in told
    server.log.wait_for(r"views\.py.*in patient")
    server.access.wait_for("tidied up after GET /patient")
    server.access.wait_for(r'"/patient.* 503 |/patient.*"status": ?503')
    assert server.get("/hello").status == 200
    assert server.workers() == workers


@pytest.mark.usefixtures("patient")
def test_a_request_that_ignores_the_exception_has_its_worker_replaced(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "1", "--timeout", "1", "--graceful-timeout", "1")
    workers = server.workers()
    assert server.get("/patient?again").status == 503
    server.log.wait_for("goes on after RequestTimedOut: GET /patient")
    server.wait_until_gone(workers)
    assert server.get("/hello").status == 200


def test_a_request_over_timeout_ends_and_those_beside_it_do_not(
    run_server: RunServer, gate: Gate
) -> None:
    server = run_server("-w", "1", "--timeout", "2")
    with server.connect() as first, server.connect() as second:
        late = HeldRequest(first, gate)
        outcome = late.result()
        beside = HeldRequest(second, gate)
        gate.release()
        answer = beside.result()
    assert isinstance(outcome, Answer)
    assert outcome.status == 503
    assert isinstance(answer, Answer)
    assert answer.status == 200
    assert late.pid == beside.pid


# -- databases ---------------------------------------------------------------------------------

WAITS_FOR_LOCK = """

def locked(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock_shared(7), pg_backend_pid()")
        (_, backend_pid) = cursor.fetchone()
        cursor.execute("SELECT pg_advisory_unlock_shared(7)")
    return JsonResponse({"backend": backend_pid, "pid": os.getpid()})
"""
APPLICATION = "wsgiserve-gevent"
SLOTS = 8


class PostgreSQL(NamedTuple):
    """A database, the environment of servers that use it, and a session of the test's own."""

    environment: dict[str, str]
    session: Any

    def sessions(self) -> list[str | None]:
        """Return what each session that servers have there waits for."""
        query = "SELECT wait_event_type FROM pg_stat_activity WHERE application_name = %s"
        return [waits_for for (waits_for,) in self.session.execute(query, [APPLICATION])]


@pytest.fixture
def postgresql(project: ProjectCopy, postgresql_url: str) -> Iterator[PostgreSQL]:
    """Let the project use PostgreSQL, and have a view that waits for it."""
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    project.append("notes/views.py", WAITS_FOR_LOCK)
    project.append("demo/settings.py", "\nDATABASES['default']['CONN_MAX_AGE'] = 60\n")
    project.append(
        "demo/urls.py",
        "\nfrom notes.views import locked\nurlpatterns.append(path('locked', locked))\n",
    )
    environment = {"DATABASE_URL": postgresql_url, "PGAPPNAME": APPLICATION}
    assert project.manage("migrate", "--verbosity", "0", **environment).returncode == 0
    with psycopg.connect(postgresql_url, autocommit=True) as session:
        yield PostgreSQL(environment, session)


def ask_all(wires: list[Wire], path: str) -> None:
    for wire in wires:
        wire.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


def backends(wires: list[Wire]) -> list[int]:
    """Return the database sessions that answered each of the clients."""
    answers = [wire.receive() for wire in wires]
    assert {answer.status for answer in answers} == {200}, answers
    return [json.loads(answer.body)["backend"] for answer in answers]


def test_queries_wait_side_by_side_in_sessions_of_their_own(
    run_server: RunServer, postgresql: PostgreSQL
) -> None:
    options = ("-w", "1", "--greenlets", str(SLOTS), "--warmup", "/hello")
    server = run_server(*options, environment=postgresql.environment)
    postgresql.session.execute("SELECT pg_advisory_lock(7)")
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(server.connect()) for _ in range(SLOTS)]
        ask_all(wires, "/locked")
        server.log.wait_until(lambda: postgresql.sessions() == ["Lock"] * SLOTS)
        postgresql.session.execute("SELECT pg_advisory_unlock(7)")
        assert len(set(backends(wires))) == SLOTS


def test_database_sessions_are_never_more_than_greenlets_over_5000_requests(
    run_server: RunServer, postgresql: PostgreSQL
) -> None:
    options = ("-w", "1", "--greenlets", str(SLOTS), "--warmup", "/hello")
    server = run_server(*options, environment=postgresql.environment)
    seen: set[int] = set()
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(server.connect()) for _ in range(50)]
        for _ in range(100):
            ask_all(wires, "/locked")
            seen.update(backends(wires))
    assert 1 <= len(postgresql.sessions()) <= SLOTS
    assert len(seen) <= SLOTS, "sessions were given up and opened again"


def test_a_query_over_timeout_leaves_its_greenlet_with_a_session_that_works(
    run_server: RunServer, postgresql: PostgreSQL
) -> None:
    options = ("-w", "1", "--greenlets", "1", "--timeout", "1", "--warmup", "/hello")
    server = run_server(*options, environment=postgresql.environment)
    workers = server.workers()
    postgresql.session.execute("SELECT pg_advisory_lock(7)")
    assert server.get("/locked").status == 503
    postgresql.session.execute("SELECT pg_advisory_unlock(7)")
    for _ in range(3):
        assert server.get("/backend").status == 200
    assert server.workers() == workers
