"""Requests whose view has a limit of its own: shorter than TIMEOUT, longer, or none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from django_wsgiserve.events import Notice
from tests.workers.http_client import AnswerReader, ask, get
from tests.workers.served import Served
from tests.workers.test_deadlines import Held

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Build = Callable[..., Served]


class Limited(Held):
    """Tells the server what its view is and may do, and holds it then."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        """Do what any application does once it knows the view."""
        if environ["PATH_INFO"] == "/held":
            environ["wsgiserve.name_view"]("shop.views.export", self._timeout_s)
        return super().__call__(environ, start_response)


@pytest.mark.parametrize("timeout_s", [600.0, 0.0], ids=["longer", "none"])
def test_a_view_with_a_shorter_limit_is_ended_by_it(build: Build, timeout_s: float) -> None:
    application = Limited(0.1)
    served = build(application, timeout_s=timeout_s).start()
    with served.pair() as stuck:
        application.hold(served, stuck)
        answer = AnswerReader(stuck).read()
        assert (answer.status, answer.closes) == (503, True)
        (notice,) = served.wait_for(Notice)
        assert "longer than TIMEOUT of its view (0.1 s)" in notice.message
        assert "GET /held (shop.views.export)" in notice.message
        application.go_on.set()
        served.wait_until(lambda: not served.reactor._traffic.connections)


@pytest.mark.parametrize("timeout_s", [600.0, math.inf], ids=["longer", "none"])
def test_a_view_with_a_longer_limit_outlives_timeout(build: Build, timeout_s: float) -> None:
    application = Limited(timeout_s)
    served = build(application, timeout_s=0.1).start()
    beats: set[float] = set()

    def three_beats() -> bool:
        """Whether it has looked at deadlines twice, a second apart."""
        beats.add(served.row.status().heartbeat_s)
        return len(beats) >= 3

    with served.pair() as client:
        application.hold(served, client)
        served.wait_until(three_beats)
        application.go_on.set()
        assert AnswerReader(client).read().status == 200
        assert not served.of(Notice)


def test_the_limit_of_one_request_is_not_that_of_the_next(build: Build) -> None:
    application = Limited(math.inf)
    served = build(application, timeout_s=0.1).start()
    with served.pair() as client:
        application.go_on.set()
        assert ask(client, get("/held")).status == 200
    assert [cell.timeout_s for cell in served.row.cells if cell.timeout_s] == [math.inf]
    with served.pair() as client:
        assert ask(client, get("/other")).status == 200
        assert ask(client, get("/other")).status == 200
    served.wait_until(lambda: served.row.status().requests == 3)
    assert served.row.cells[0].timeout_s == 0.0 or served.request_slots > 1
