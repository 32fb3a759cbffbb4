"""Views with a limit of their own: by decorator and by VIEWS, in the worker and beyond it."""

from __future__ import annotations

import re
import signal

import pytest

from tests.integration.conftest import RefuseServer, RunServer
from tests.integration.held_request import Gate, HeldRequest
from tests.integration.project_copy import ProjectCopy
from tests.integration.running_server import RunningServer
from tests.integration.test_refusals import REFUSED, USAGE, assert_refused
from tests.integration.wire import Answer, BrokenAnswer

URLS = """
from django.urls import include
from django.utils.decorators import method_decorator
from django.views import View

from django_wsgiserve import timeout


@method_decorator(timeout("1s"), name="dispatch")
class Held(View):
    def get(self, request):
        return trouble.hold(request)


@timeout("1s")
async def held_async(request):
    import asyncio
    return await asyncio.to_thread(trouble.hold, request)


reports = [
    path("export", trouble.hold, name="export"),
    path("decorated", timeout("1h")(trouble.hold), name="decorated"),
    path("spin-in-c", trouble.spin_in_c, name="spin"),
]
urlpatterns += [
    path("brief", timeout("1s")(trouble.hold)),
    path("class", Held.as_view()),
    path("async", held_async),
    path("long", timeout("1h")(trouble.hold)),
    path("endless", timeout(None)(trouble.hold)),
    path("reports/", include((reports, "reports"))),
    path("office/", include(([path("reports/", include((reports, "reports")))], "office"))),
]
"""


class GateAt(Gate):
    """A gate in another view than `/hold`."""

    def __init__(self, view: str) -> None:
        super().__init__()
        self._view = view

    def path_before(self, then: str) -> str:
        """Return the path of a request that is held at this gate."""
        return super().path_before(then).replace("/hold", self._view, 1)


@pytest.fixture
def project(project: ProjectCopy) -> ProjectCopy:
    """Return a project that has views with limits."""
    project.append("demo/urls.py", URLS)
    return project


def assert_ended(server: RunningServer, path: str, view: str) -> None:
    """Hold the server to ending a request to `path` after the 1 s of its view, and to saying so."""
    with GateAt(path) as gate, server.connect() as wire:
        held = HeldRequest(wire, gate)
        told = server.log.wait_for(rf"(?m)^.*longer than TIMEOUT of its view.*GET {path}\b.*$")
        outcome = held.result()
    assert "TIMEOUT of its view (1 s)" in told
    assert view in told, "the view is not named"
    assert isinstance(outcome, Answer), outcome
    assert outcome.status == 503
    server.log.wait_for(r"trouble\.py.*hold|threads\.py|to_thread|asgiref")
    assert server.get("/hello").status == 200


@pytest.mark.parametrize(
    ("path", "view"),
    [
        ("/brief", "demo.trouble.hold"),
        ("/class", "demo.urls.Held"),
        ("/async", "demo.urls.held_async"),
    ],
)
@pytest.mark.parametrize("timeout", ["1h", "0"], ids=["TIMEOUT", "no-TIMEOUT"])
def test_a_view_with_a_shorter_limit_is_ended_by_it(
    run_server: RunServer, path: str, view: str, timeout: str
) -> None:
    server = run_server("-w", "1", "--timeout", timeout, "--graceful-timeout", "1")
    assert_ended(server, path, view)


@pytest.mark.parametrize("path", ["/long", "/endless"])
def test_a_view_with_a_longer_limit_outlives_timeout(
    run_server: RunServer, path: str, gate: Gate
) -> None:
    server = run_server("-w", "2", "--timeout", "1")
    with GateAt(path) as patient, server.connect() as wire, server.connect() as other:
        held = HeldRequest(wire, patient)
        # Ended by TIMEOUT, and it began later.
        outlived = HeldRequest(other, gate).result()
        patient.release()
        outcome = held.result()
    assert isinstance(outlived, Answer)
    assert outlived.status == 503
    server.log.wait_for(re.escape("longer than TIMEOUT (1 s): GET /hold"))
    assert isinstance(outcome, Answer), outcome
    assert outcome.status == 200
    assert not re.search(rf"longer than.*{path}", server.log.text)


@pytest.mark.parametrize(
    ("views", "path"),
    [
        ({"reports:export": "1s"}, "/reports/export"),
        ({"reports": "1s"}, "/reports/export"),
        ({"reports": "1h", "reports:export": "1s"}, "/reports/export"),
        ({"reports": "1s"}, "/reports/decorated"),
        ({"office": "1s"}, "/office/reports/export"),
        ({"office": "1h", "office:reports": "1s"}, "/office/reports/decorated"),
    ],
    ids=["name", "namespace", "name-in-namespace", "over-decorator", "nested", "inner"],
)
def test_the_operator_gives_views_a_limit_by_name_and_namespace(
    run_server: RunServer, project: ProjectCopy, views: dict[str, str], path: str
) -> None:
    project.configure(VIEWS={name: {"TIMEOUT": limit} for name, limit in views.items()})
    server = run_server("-w", "1", "--timeout", "1h", "--graceful-timeout", "1")
    assert_ended(server, path, "demo.trouble.hold")


def test_a_view_in_c_that_holds_the_interpreter_is_ended_by_the_supervisor(
    run_server: RunServer, project: ProjectCopy
) -> None:
    project.configure(VIEWS={"reports:spin": {"TIMEOUT": "1s"}})
    server = run_server("-w", "2", "--timeout", "0")
    workers = server.workers()
    with server.connect() as wire, pytest.raises(BrokenAnswer):
        wire.request("GET", "/reports/spin-in-c")
    told = server.log.wait_for(r"(?m)^.*is ended: its request ran longer than TIMEOUT.*$")
    assert "GET /reports/spin-in-c (view demo.trouble.spin_in_c)" in told
    assert "(TIMEOUT of the view: 1 s)" in told
    server.log.wait_until(lambda: len(server.workers() - workers) == 1)
    assert server.get("/hello").status == 200


def test_a_reload_changes_the_limit_of_a_view(run_server: RunServer) -> None:
    server = run_server("-w", "1", "--timeout", "1h", "--graceful-timeout", "1")
    server.project.configure(VIEWS={"reports:export": {"TIMEOUT": "1s"}})
    server.reload()
    assert_ended(server, "/reports/export", "demo.trouble.hold")


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ({"reprots:export": {"TIMEOUT": "5m"}}, ('"reprots:export"', '"reports:export"')),
        ({"reprots": {"TIMEOUT": "5m"}}, ('"reprots"', '"reports"')),
        ({"reports": {"TIMEOUT": "soon"}}, ('["VIEWS"]["reports"]["TIMEOUT"]', "'soon'")),
        ({"reports": {"TIMEUOT": "5m"}}, ('["VIEWS"]["reports"]["TIMEUOT"]', '"TIMEOUT"')),
    ],
    ids=["name", "namespace", "value", "key"],
)
def test_a_reload_with_bad_views_is_refused_and_says_why(
    run_server: RunServer, views: dict[str, object], words: tuple[str, ...]
) -> None:
    server = run_server("-w", "1")
    workers = server.workers()
    server.project.configure(VIEWS=views)
    server.project.deploy("two")
    server.send_signal(signal.SIGHUP)
    for word in words:
        server.log.wait_for(re.escape(word))
    server.log.wait_until(lambda: len(server.family()) == 3)
    assert server.whoami()["version"] == "one"
    assert server.workers() == workers
    server.project.configure(VIEWS={"reports": {"TIMEOUT": "5m"}})
    server.reload()
    assert server.whoami()["version"] == "two"


@pytest.mark.parametrize(
    ("views", "exit_code"),
    [({"reprots": {"TIMEOUT": "5m"}}, REFUSED), ({"reports": {"TIMEOUT": "soon"}}, USAGE)],
    ids=["name", "value"],
)
def test_a_start_with_bad_views_is_refused_and_says_why(
    refuse_server: RefuseServer, project: ProjectCopy, views: dict[str, object], exit_code: int
) -> None:
    project.configure(VIEWS=views)
    assert_refused(refuse_server(), exit_code, "VIEWS", *views)
