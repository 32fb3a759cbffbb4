"""The request that a new worker process sends itself before it sees a visitor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_wsgiserve.scoreboard import Order, State
from tests.workers.http_client import ask, get
from tests.workers.worker_process import Fork

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


def test_a_probe_goes_through_the_application_and_is_in_no_log(fork: Fork) -> None:
    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        assert environ["HTTP_HOST"] == "site.example"
        assert environ["HTTP_X_FORWARDED_PROTO"] == "https"
        assert environ["PATH_INFO"] == "/warm"
        start_response("204 No Content", [])
        return []

    process = fork(application=application, probe="/warm")
    assert process.report() == {"event": "ready", "status": 204}
    process.order(Order.QUIT)
    assert process.wait() == 0
    assert process.access_log.read_text() == ""


def fails(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
    """Answer every request with a 500."""
    start_response("500 Internal Server Error", [])
    return [b"broken"]


def test_a_worker_whose_probe_fails_reports_it_and_sees_no_visitor(fork: Fork) -> None:
    process = fork(application=fails, probe="/", probe_decides=True)
    assert process.report() == {"event": "ready", "status": 500}
    with process.connect() as client:
        client.sendall(get("/"))
        assert process.now().state is State.BOOTING
        process.order(Order.RETIRE)
        assert process.wait() == 0
        sock, _ = process.listener.socket.accept()
        sock.close()


def test_a_first_worker_whose_probe_fails_serves_all_the_same(fork: Fork) -> None:
    process = fork(application=fails, probe="/", probe_decides=False)
    assert process.report() == {"event": "ready", "status": 500}
    with process.connect() as client:
        assert ask(client, get("/")).status == 500


def test_a_probe_for_a_large_page_is_answered_by_its_status(fork: Fork) -> None:
    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x" * (8 << 20)]

    process = fork(application=application, probe="/").ready()
    process.order(Order.RETIRE)
    assert process.wait() == 0


def test_an_answer_to_the_probe_does_not_hide_that_the_worker_leaves(fork: Fork) -> None:
    process = fork(order_before=Order.RETIRE, probe="/")
    assert process.wait() == 0
    assert process.now().state is State.RETIRING
