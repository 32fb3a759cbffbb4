"""Nothing of a database is shared across a fork."""

from __future__ import annotations

import json

import pytest

from tests.integration.conftest import REQUEST_SLOTS, RunServer
from tests.integration.held_request import ask_every_worker
from tests.integration.processes import open_files
from tests.integration.project_copy import ProjectCopy

APPLICATION = "wsgiserve-test"


def databases_open_in(pid: int) -> list[str]:
    return [target for target in open_files(pid) if "db.sqlite3" in target]


def test_a_note_that_was_posted_is_read_back(run_server: RunServer) -> None:
    server = run_server("-w", "2")
    with server.connect() as wire:
        assert wire.request("POST", "/notes/", body=b"first").status == 200
    assert json.loads(server.get("/notes/").body)["notes"] == ["first"]


def test_a_connection_that_the_import_opened_is_not_handed_to_the_workers(
    worker_class: str, run_server: RunServer, project: ProjectCopy
) -> None:
    project.append(
        "demo/wsgi.py",
        "\nfrom notes.models import Note\nOPENED_WHILE_LOADING = Note.objects.count()\n",
    )
    server = run_server("-w", "2", "--warmup", "/notes/")
    assert databases_open_in(server.forkserver()) == []
    assert databases_open_in(server.pid) == []
    ask_every_worker(server, "/notes/", 2)
    for worker in server.workers():
        assert len(databases_open_in(worker)) <= REQUEST_SLOTS[worker_class]


def test_a_connection_that_cannot_be_closed_before_the_fork_is_told(
    run_server: RunServer, project: ProjectCopy
) -> None:
    project.append(
        "demo/wsgi.py",
        "\nimport sqlite3\nfrom django.conf import settings\n"
        "KEPT = sqlite3.connect(settings.DATABASES['default']['NAME'])\n"
        "KEPT.execute('SELECT 1 FROM notes_note').fetchall()\n",
    )
    server = run_server("-w", "1")
    server.log.wait_for("(?i)(open|shared).*db.sqlite3|db.sqlite3.*(open|shared)")


@pytest.mark.parametrize("pooled", [False, True], ids=["persistent", "pool"])
def test_every_worker_has_a_postgresql_session_of_its_own(
    worker_class: str,
    run_server: RunServer,
    project: ProjectCopy,
    postgresql_url: str,
    pooled: bool,
) -> None:
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    if pooled:
        project.append(
            "demo/settings.py",
            "\nDATABASES['default'].update(CONN_MAX_AGE=0,"
            " OPTIONS={'pool': {'min_size': 1, 'max_size': 1}})\n",
        )
    project.append(
        "demo/wsgi.py",
        "\nfrom django.db import connection\n"
        "with connection.cursor() as cursor:\n    cursor.execute('SELECT 1')\n",
    )
    environment = {"DATABASE_URL": postgresql_url, "PGAPPNAME": APPLICATION}
    assert project.manage("migrate", "--verbosity", "0", **environment).returncode == 0
    server = run_server("-w", "3", "--warmup", "/backend", environment=environment)
    answers = ask_every_worker(server, "/backend", 3)
    assert len({answer["backend"] for answer in answers.values()}) == 3
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        sessions = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [APPLICATION]
        ).fetchone()
    assert sessions is not None
    most = 3 * REQUEST_SLOTS[worker_class]
    assert 3 <= sessions[0] <= most, "somebody else, the forkserver perhaps, kept a session"
