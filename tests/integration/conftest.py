"""Servers, projects and gates for the tests that see the server only from outside."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.integration.held_request import Gate
from tests.integration.postgresql import Cluster, postgresql_command
from tests.integration.processes import all_processes
from tests.integration.project_copy import ProjectCopy
from tests.integration.running_server import Ended, Launch, RunningServer, run_to_end, start

WORKER_CLASSES = ["sync", "threads", "gevent"]
REQUEST_SLOTS = {"sync": 1, "threads": 4, "gevent": 20}
"""How many requests a worker of each class runs at once, each with connections of its own."""

_leaders: set[int] = set()
"""Sessions begun by servers of this test run."""


class RunServer(Protocol):
    """Starts `manage.py runprod` and returns when it is ready."""

    def __call__(
        self, *options: str, project: ProjectCopy | None = None, **launch: Any
    ) -> RunningServer:
        """Start with `options`; the other arguments are those of `Launch`."""


class RefuseServer(Protocol):
    """Starts `manage.py runprod` and returns when it has ended by itself."""

    def __call__(self, *options: str, project: ProjectCopy | None = None, **launch: Any) -> Ended:
        """Start with `options`; the other arguments are those of `Launch`."""


@pytest.fixture(params=WORKER_CLASSES, scope="session")
def worker_class(request: pytest.FixtureRequest) -> str:
    """Every test of this ring runs with every worker class."""
    return str(request.param)


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an SQLite file with the project's migrations applied."""
    project = ProjectCopy(tmp_path_factory.mktemp("migrated") / "project")
    finished = project.manage("migrate", "--verbosity", "0")
    assert finished.returncode == 0, finished.stderr
    return project.directory / "db.sqlite3"


@pytest.fixture
def project(tmp_path: Path, migrated_database: Path) -> ProjectCopy:
    """Return a migrated project of this test's own."""
    return ProjectCopy(tmp_path / "project", migrated_database)


@pytest.fixture
def run_server(project: ProjectCopy, worker_class: str) -> Iterator[RunServer]:
    """Return a function that starts a server on a free port and blocks until it is ready."""
    started: list[RunningServer] = []
    own_project = project

    def run(*options: str, project: ProjectCopy | None = None, **launch: Any) -> RunningServer:
        words = _with_defaults(options, worker_class)
        server = start(Launch(options=words, project=project or own_project, **launch))
        _leaders.add(server.pid)
        started.append(server)
        if "-w" in options:  # it is ready when one can answer; tests count on all
            server.wait_for_workers(int(options[options.index("-w") + 1]))
        return server

    yield run
    codes = {server.pid: end(server) for server in started}
    assert not any(codes.values()), f"exit codes {codes}\n{started[0].log.text}"


@pytest.fixture
def refuse_server(project: ProjectCopy, worker_class: str) -> RefuseServer:
    """Return a function that starts a server which is expected to end by itself."""
    own_project = project

    def run(*options: str, project: ProjectCopy | None = None, **launch: Any) -> Ended:
        words = _with_defaults(options, worker_class)
        return run_to_end(Launch(options=words, project=project or own_project, **launch))

    return run


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Path, worker_class: str
) -> Iterator[RunningServer]:
    """Return a server with one worker, for tests that leave it as they found it."""
    project = ProjectCopy(tmp_path_factory.mktemp("site") / "project", migrated_database)
    (project.directory / "download.bin").write_bytes(bytes(range(256)) * 20_000)
    options = _with_defaults(("--workers", "1", "--access-log-format", "combined"), worker_class)
    server = start(Launch(options=options, project=project))
    _leaders.add(server.pid)
    yield server
    assert end(server) == 0, server.log.text


def _with_defaults(options: tuple[str, ...], worker_class: str) -> tuple[str, ...]:
    words = ["-k", worker_class, *options]
    if not {"--bind", "-b"} & set(options):
        words += ["--bind", "127.0.0.1:0"]
    if "--log-format" not in options:
        words += ["--log-format", "text"]
    return tuple(words)


def end(server: RunningServer) -> int:
    """Stop a server unless it has ended; return 0 when it ended as it should.

    A server whose supervisor the test killed (-9) or whose exit code it has read is
    only looked at for survivors.
    """
    if server.process.returncode is not None:
        survivors = server.family()
        server.kill()
        assert not survivors, f"{survivors} survived their supervisor\n{server.log.text}"
        return 0
    try:
        code = server.stop()
        survivors = server.family()
    finally:
        server.kill()
    assert not survivors, f"{survivors} survived a stop\n{server.log.text}"
    return code


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Hold the ring to it: when it ends, no process of any of its servers lives."""
    yield
    left = [p for p in all_processes() if p.session in _leaders and not p.is_zombie]
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """Return the URL of a PostgreSQL: of the environment, else one started here."""
    if os.environ.get("DATABASE_URL", "").startswith("postgres"):
        yield os.environ["DATABASE_URL"]
        return
    if not postgresql_command("initdb") or not postgresql_command("pg_ctl"):
        pytest.skip("no DATABASE_URL, and PostgreSQL's initdb and pg_ctl are not installed")
    cluster = Cluster()
    yield cluster.url
    cluster.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Return a gate that holds requests within a view."""
    with Gate() as opened:
        yield opened


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Allow this process, and what it starts, some thousand descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"at most {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
