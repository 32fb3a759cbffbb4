"""Requests that go on after TIMEOUT, for nobody: their worker does not wait for them."""

from __future__ import annotations

import re

import pytest

from tests.integration.conftest import RunServer
from tests.integration.held_request import HeldRequest
from tests.integration.project_copy import ProjectCopy
from tests.integration.running_server import RunningServer
from tests.integration.test_view_timeouts import GateAt
from tests.integration.wire import Answer

URLS = """
import contextlib
from django_wsgiserve import timeout


def stubborn(request):
    while True:
        with contextlib.suppress(BaseException):
            trouble.hold(request)


urlpatterns += [
    path("stubborn", stubborn),
    path("long", timeout("1h")(trouble.hold)),
]
"""
PATIENT = ("--timeout", "1", "--graceful-timeout", "1h")


@pytest.fixture
def project(project: ProjectCopy) -> ProjectCopy:
    """Return a project with a view that nothing ends but the end of its process."""
    project.append("demo/urls.py", URLS)
    return project


def assert_503(request: HeldRequest) -> None:
    outcome = request.result()
    assert isinstance(outcome, Answer), outcome
    assert outcome.status == 503


def assert_left_by_itself(server: RunningServer, pid: int) -> None:
    """Wait until a worker has gone, and hold the server to not having ended it."""
    server.wait_until_gone([pid])
    assert not re.search(r"is (killed|ended)|was killed|exited with", server.log.text)


def test_a_worker_does_not_wait_for_a_request_that_it_has_given_up(run_server: RunServer) -> None:
    server = run_server("-w", "1", *PATIENT)
    with GateAt("/stubborn") as gate, server.connect() as wire:
        held = HeldRequest(wire, gate)
        assert_503(held)
        assert_left_by_itself(server, held.pid)
    assert server.get("/hello").status == 200
    assert len(server.wait_for_workers(1)) == 1


def test_what_runs_beside_a_stuck_request_is_answered_before_the_worker_leaves(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "1", *PATIENT)
    with (
        GateAt("/stubborn") as gate,
        GateAt("/long") as long_gate,
        server.connect() as wire,
        server.connect() as other,
    ):
        held = HeldRequest(wire, gate)
        beside = HeldRequest(other, long_gate)
        assert_503(held)
        server.log.wait_until(lambda: bool(server.workers() - {held.pid}))
        long_gate.release()
        outcome = beside.result()
        assert isinstance(outcome, Answer), outcome
        assert outcome.status == 200
        assert_left_by_itself(server, held.pid)


def test_a_stop_does_not_wait_for_a_request_that_was_given_up(run_server: RunServer) -> None:
    server = run_server("-w", "2", *PATIENT)
    with GateAt("/stubborn") as gate, server.connect() as wire:
        held = HeldRequest(wire, gate)
        assert_503(held)
        assert server.stop() == 0
    assert not re.search(r"is (killed|ended)|was killed", server.log.text), server.log.text
