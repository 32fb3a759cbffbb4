"""Where the server listens, and where it refuses to."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.integration.conftest import RefuseServer, RunServer
from tests.integration.project_copy import ProjectCopy
from tests.integration.wire import Wire

CANNOT_BIND = 5
NOBODY = 65534


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a path short enough for a Unix socket (108 bytes)."""
    return tmp_path_factory.mktemp("run") / "s.sock"


def test_several_binds_are_all_served(run_server: RunServer, socket_path: Path) -> None:
    binds = ["127.0.0.1:0", "[::1]:0", f"unix:{socket_path}"]
    server = run_server("-w", "1", *(word for bind in binds for word in ("-b", bind)))
    assert len(server.addresses) == 3
    for address in server.addresses:
        with Wire(address) as wire:
            assert wire.request("GET", "/hello?token=t").body.startswith(b"t one ")


def test_an_ipv6_client_is_seen_by_its_address(run_server: RunServer) -> None:
    server = run_server("-w", "1", "-b", "[::1]:0")
    assert server.addresses[0][0] == "::1"
    seen = server.whoami()
    assert seen["peer"] == "::1"
    assert seen["port"] == str(server.addresses[0][1])


def test_a_unix_socket_gets_its_mode_and_goes_with_the_server(
    run_server: RunServer, socket_path: Path
) -> None:
    server = run_server("-w", "1", "-b", f"unix:{socket_path}", "--socket-mode", "600")
    assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600
    assert server.get("/hello").status == 200
    assert server.stop() == 0
    assert not socket_path.exists()


def test_a_stale_unix_socket_is_replaced(run_server: RunServer, socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(socket_path))
    server = run_server("-w", "1", "-b", f"unix:{socket_path}")
    assert server.get("/hello").status == 200


def test_a_live_unix_socket_is_refused_and_left_alone(
    refuse_server: RefuseServer, socket_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(socket_path))
        live.listen()
        ended = refuse_server("-b", f"unix:{socket_path}")
        assert ended.exit_code == CANNOT_BIND, ended.output
        assert str(socket_path) in ended.output
        assert "Traceback" not in ended.output
        assert not ended.survivors
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(socket_path))


def test_a_plain_file_in_place_of_the_socket_is_not_deleted(
    refuse_server: RefuseServer, socket_path: Path
) -> None:
    socket_path.write_text("somebody's data")
    ended = refuse_server("-b", f"unix:{socket_path}")
    assert ended.exit_code == CANNOT_BIND, ended.output
    assert socket_path.read_text() == "somebody's data"


def test_an_inherited_listener_is_served(run_server: RunServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        fd = listener.fileno()
        server = run_server("-w", "1", "-b", f"fd://{fd}", pass_fds=(fd,))
        assert server.addresses == [address]
    assert server.get("/hello?token=t").body.startswith(b"t one ")


def test_an_inherited_unix_socket_file_belongs_to_who_made_it(
    run_server: RunServer, socket_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        fd = listener.fileno()
        server = run_server("-w", "1", "-b", f"fd://{fd}", pass_fds=(fd,))
        with Wire(str(socket_path)) as wire:
            assert wire.request("GET", "/hello").status == 200
        assert server.stop() == 0
    assert socket_path.exists()


def test_a_descriptor_that_is_no_listener_is_refused(
    refuse_server: RefuseServer, tmp_path: Path
) -> None:
    with (tmp_path / "file").open("w") as file:
        ended = refuse_server("-b", f"fd://{file.fileno()}", pass_fds=(file.fileno(),))
    assert ended.exit_code == CANNOT_BIND, ended.output
    assert "Traceback" not in ended.output


def test_a_port_in_use_names_the_process_that_has_it(
    run_server: RunServer, refuse_server: RefuseServer
) -> None:
    first = run_server("-w", "1")
    host, port = first.host_and_port
    second = refuse_server("-b", f"{host}:{port}")
    assert second.exit_code == CANNOT_BIND, second.output
    assert f"{port}" in second.output
    assert f"{first.pid}" in second.output, "the process in the way is not named"
    assert "Traceback" not in second.output
    assert not second.survivors
    assert first.get("/hello").status == 200


def test_when_one_of_two_binds_fails_no_socket_file_stays(
    refuse_server: RefuseServer, socket_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = refuse_server("-b", f"unix:{socket_path}", "-b", f"127.0.0.1:{port}")
    assert ended.exit_code == CANNOT_BIND, ended.output
    assert str(os.getpid()) in ended.output
    assert not socket_path.exists()


def test_an_address_of_another_machine_is_refused_in_plain_words(
    refuse_server: RefuseServer,
) -> None:
    ended = refuse_server("-b", "203.0.113.7:8000")
    assert ended.exit_code == CANNOT_BIND, ended.output
    assert "203.0.113.7" in ended.output
    assert "Traceback" not in ended.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_privileged_port_without_permission_is_refused_in_plain_words(
    refuse_server: RefuseServer, project: ProjectCopy
) -> None:
    limit = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if limit <= 80:
        pytest.skip("every port is open to everybody here")
    prefix = ("setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service")
    ended = refuse_server("-b", "127.0.0.1:80", prefix=prefix)
    assert ended.exit_code == CANNOT_BIND, ended.output
    assert "127.0.0.1:80" in ended.output
    assert "privilege" in ended.output
    assert "Traceback" not in ended.output


def test_the_port_is_free_again_at_once_after_a_stop(run_server: RunServer) -> None:
    first = run_server("-w", "1")
    host, port = first.host_and_port
    assert first.get("/hello").status == 200
    assert first.stop() == 0
    second = run_server("-w", "1", "-b", f"{host}:{port}")
    assert second.get("/hello").status == 200
