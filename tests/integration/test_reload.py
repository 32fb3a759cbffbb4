"""A good deploy drops nothing; a bad one changes nothing."""

from __future__ import annotations

import signal

import pytest

from tests.integration.conftest import RunServer
from tests.integration.fleet import Crowd
from tests.integration.held_request import Gate, HeldRequest, ask_every_worker
from tests.integration.load_client import LoadClient
from tests.integration.project_copy import ProjectCopy
from tests.integration.running_server import RunningServer
from tests.integration.wire import Answer

REFUSED_RELOAD = r"generation \d+ was given up, generation \d+ serves on"


def assert_only(server: RunningServer, version: str, *, workers: int) -> None:
    """Hold every worker to `version`."""
    server.wait_for_workers(workers)
    answers = ask_every_worker(server, "/whoami", workers)
    assert [answer["version"] for answer in answers.values()] == [version] * workers


@pytest.mark.timeout(240)
@pytest.mark.parametrize("keep_alive", [True, False], ids=["keep-alive", "close"])
def test_ten_reloads_in_a_row_under_load_lose_nothing(
    run_server: RunServer, keep_alive: bool
) -> None:
    server = run_server("-w", "2")
    with LoadClient(server.address, clients=3, keep_alive=keep_alive) as load:
        load.wait_for_answers(50)
        for number in range(10):
            server.project.deploy(f"deploy-{number}")
            server.reload()
        load.wait_for_answers(50)
        tally = load.stop()
    assert not tally.lost, f"{tally.lost} of {tally.answered}: {tally.examples}"
    assert tally.versions["deploy-9"] > 0
    assert_only(server, "deploy-9", workers=2)


@pytest.mark.parametrize(("workers", "reloads"), [(4, 1), (2, 10), (1, 2)])
def test_idle_connections_outlive_the_workers_that_had_them(
    run_server: RunServer, workers: int, reloads: int
) -> None:
    server = run_server("-w", str(workers))
    with Crowd(server, 200) as crowd:
        seen = crowd.pids()
        for number in range(reloads):
            server.project.deploy(f"deploy-{number}")
            server.reload()  # no process of the generation before is left
            assert crowd.none_was_closed()
            answers = crowd.ask()
            assert {version for version, _ in answers} == {f"deploy-{number}"}
            assert not seen & {pid for _, pid in answers}
            seen |= {pid for _, pid in answers}
        assert_only(server, f"deploy-{reloads - 1}", workers=workers)


def test_idle_connections_of_workers_that_are_no_longer_wanted_go_to_those_that_stay(
    run_server: RunServer, project: ProjectCopy
) -> None:
    project.configure(WORKERS=4)
    server = run_server()
    server.wait_for_workers(4)
    with Crowd(server, 200) as crowd:
        crowd.ask()
        server.project.configure(WORKERS=1)
        server.project.deploy("two")
        server.reload()
        assert crowd.none_was_closed()
        (worker,) = server.wait_for_workers(1)
        assert set(crowd.ask()) == {("two", worker)}


def test_idle_connections_leave_a_worker_whose_request_goes_on(
    run_server: RunServer, gate: Gate
) -> None:
    server = run_server("-w", "2")
    old = server.workers()
    with Crowd(server, 200) as crowd, Crowd(server, 1) as other:
        crowd.ask()
        held = HeldRequest(other.wires[0], gate)
        server.project.deploy("two")
        server.send_signal(signal.SIGHUP)
        server.log.wait_until(lambda: {version for version, _ in crowd.ask()} == {"two"})
        assert held.answer is None
        gate.release()
        answer = held.result()
        server.wait_until_gone(old)
        assert crowd.none_was_closed()
        assert not old & crowd.pids()
    assert isinstance(answer, Answer), answer
    assert answer.status == 200


def test_a_client_whose_request_outlives_the_reload_keeps_its_connection(
    run_server: RunServer, gate: Gate
) -> None:
    server = run_server("-w", "1")
    with server.connect() as wire:
        held = HeldRequest(wire, gate)
        server.project.deploy("two")
        server.send_signal(signal.SIGHUP)
        server.log.wait_until(lambda: server.whoami()["version"] == "two")
        gate.release()
        answer = held.result()
        assert isinstance(answer, Answer), answer
        assert answer.keeps_alive
        server.wait_until_gone([held.pid])
        assert b" two " in wire.request("GET", "/hello").body


def test_without_handoff_a_reload_closes_connections_with_an_answer_that_says_so(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "1", "--no-handoff")
    with Crowd(server, 20) as crowd:
        (old,) = crowd.pids()
        server.send_signal(signal.SIGHUP)
        server.log.wait_until(lambda: server.whoami()["pid"] != old)
        for wire in crowd.wires:
            # The worker may get its order a moment after its successor serves.
            answers = iter(lambda: wire.request("GET", "/hello").keeps_alive, False)  # noqa: B023
            assert all(answers)
            assert wire.is_closed_by_server
        server.wait_until_gone([old])


def test_what_is_handed_over_is_taken_by_workers_that_hand_nothing_over(
    run_server: RunServer,
) -> None:
    server = run_server()
    with Crowd(server, 20) as crowd:
        crowd.ask()
        server.project.configure(HANDOFF=False)
        server.project.deploy("two")
        server.reload()
        assert crowd.none_was_closed()
        assert {version for version, _ in crowd.ask()} == {"two"}


def test_hups_that_come_faster_than_reloads_end_at_the_last_deploy(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "2")
    with LoadClient(server.address, clients=2) as load:
        load.wait_for_answers(20)
        for number in range(10):
            server.project.deploy(f"deploy-{number}")
            server.send_signal(signal.SIGHUP)
            load.wait_for_answers(5)
        server.log.wait_until(lambda: server.whoami()["version"] == "deploy-9")
        server.log.wait_until(lambda: len(server.family()) == 4)
        tally = load.stop()
    assert not tally.lost, tally.examples
    assert_only(server, "deploy-9", workers=2)


@pytest.mark.parametrize(
    ("path", "broken", "reason", "place"),
    [
        (
            "demo/urls.py",
            "from django.urls import path\nurlpatterns = [\n",
            "SyntaxError",
            "demo/urls.py",
        ),
        ("demo/urls.py", "from demo import nowhere\n", "nowhere", "demo/urls.py"),
        ("demo/wsgi.py", "application = 3\n", "is int 3", "demo.wsgi"),
        ("demo/settings.py", "import demo.nowhere\n", "demo.nowhere", "demo/settings.py"),
        ("demo/settings.py", "raise SystemExit(3)\n", "code 3", "loading"),
    ],
    ids=["syntax", "import", "not-callable", "settings", "exit"],
)
def test_a_broken_deploy_changes_nothing_and_says_why_and_the_repaired_one_is_served(
    run_server: RunServer, path: str, broken: str, reason: str, place: str
) -> None:
    server = run_server("-w", "2")
    workers, sound = server.workers(), server.project.read(path)
    with LoadClient(server.address, clients=2) as load:
        load.wait_for_answers(20)
        server.project.deploy("broken")
        server.project.write(path, broken)
        server.send_signal(signal.SIGHUP)
        server.log.wait_for(REFUSED_RELOAD)
        load.wait_for_answers(50)
        assert server.workers() == workers, "a worker was touched"
        assert reason in server.log.text
        assert place in server.log.text, "it is not said where"
        server.log.wait_until(lambda: len(server.family()) == 4)

        server.project.write(path, sound)
        server.project.deploy("repaired")
        server.reload()
        load.wait_for_answers(50)
        tally = load.stop()
    assert not tally.lost, tally.examples
    assert set(tally.versions) == {"one", "repaired"}
    assert_only(server, "repaired", workers=2)


def test_a_deploy_whose_front_page_fails_is_not_let_in(run_server: RunServer) -> None:
    server = run_server("-w", "1")
    views = server.project.read("demo/views.py")
    server.project.write(
        "demo/views.py",
        views.replace('return HttpResponse("at home")', 'raise LookupError("gone")'),
    )
    server.send_signal(signal.SIGHUP)
    server.log.wait_for(REFUSED_RELOAD)
    assert "LookupError: gone" in server.log.text
    assert server.get("/").body == b"at home"


def test_a_deploy_that_fails_its_system_checks_is_not_let_in(run_server: RunServer) -> None:
    server = run_server("-w", "1")
    server.project.configure(WORKRES=3)
    server.project.deploy("two")
    server.send_signal(signal.SIGHUP)
    server.log.wait_for(REFUSED_RELOAD)
    assert "WORKRES" in server.log.text
    assert server.whoami()["version"] == "one"


def test_a_deploy_whose_workers_die_at_once_is_not_let_in(run_server: RunServer) -> None:
    server = run_server("-w", "2")
    workers, sound = server.workers(), server.project.read("demo/wsgi.py")
    server.project.append(
        "demo/wsgi.py", "\nos.register_at_fork(after_in_child=lambda: os._exit(9))\n"
    )
    with LoadClient(server.address, clients=2) as load:
        server.send_signal(signal.SIGHUP)
        server.log.wait_for(REFUSED_RELOAD)
        load.wait_for_answers(50)
        tally = load.stop()
    assert server.workers() == workers
    assert not tally.lost, tally.examples
    server.project.write("demo/wsgi.py", sound)
    server.project.deploy("two")
    server.reload()
    assert_only(server, "two", workers=2)


def test_the_warm_up_asks_with_a_host_that_is_allowed(run_server: RunServer) -> None:
    server = run_server("-w", "1", "--warmup", "/whoami")
    assert server.whoami()["host"] == "localhost"
    server.project.append("demo/settings.py", "\nALLOWED_HOSTS = ['site.example']\n")
    server.project.deploy("two")
    server.reload()
    answer = server.get("/whoami")
    assert answer.status == 400  # localhost is no longer allowed
    with server.connect() as wire:
        wire.send(b"GET /whoami HTTP/1.1\r\nHost: site.example\r\n\r\n")
        assert b'"version": "two"' in wire.receive().body


def test_a_request_in_flight_is_finished_by_the_code_it_began_with(
    run_server: RunServer, gate: Gate
) -> None:
    server = run_server("-w", "1")
    with server.connect() as wire:
        held = HeldRequest(wire, gate)
        server.project.deploy("two")
        server.send_signal(signal.SIGHUP)
        server.log.wait_until(lambda: server.whoami()["version"] == "two")
        gate.release()
        answer = held.result()
    assert isinstance(answer, Answer), answer
    assert answer.status == 200
    server.wait_until_gone([held.pid])


def test_a_reload_keeps_the_pid_and_the_listening_sockets(run_server: RunServer) -> None:
    server = run_server("-w", "1")
    server.project.deploy("two")
    server.reload()
    assert server.process.poll() is None
    assert server.whoami()["version"] == "two"


def test_a_reload_says_what_it_cannot_change(run_server: RunServer) -> None:
    server = run_server("-w", "1")
    server.project.configure(BACKLOG=64, PIDFILE="late.pid", KEEPALIVE="5s")
    server.reload()
    told = server.log.wait_for(r"(?m)^.*a reload cannot change.*$")
    assert "BACKLOG, PIDFILE" in told
    assert "KEEPALIVE" not in told
    assert not (server.project.directory / "late.pid").exists()
