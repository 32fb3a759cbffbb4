"""Listening on real addresses: the first time, again, and when somebody is in the way."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from django_wsgiserve.errors import BindError, ExitCode
from django_wsgiserve.sockets import Listener, open_listeners, remove_socket_file
from django_wsgiserve.sockets.listeners import split_host_port
from django_wsgiserve.sockets.portholders import describe_holder

Open = Callable[..., tuple[Listener, ...]]


@pytest.fixture
def listen() -> Iterator[Open]:
    """Return `open_listeners`; what it opened is closed at the end."""
    opened: list[Listener] = []

    def open_them(*binds: str, socket_mode: int = 0o600) -> tuple[Listener, ...]:
        listeners = open_listeners(binds, 16, socket_mode)
        opened.extend(listeners)
        return listeners

    yield open_them
    for listener in opened:
        listener.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


def test_port_0_is_a_free_port_that_the_name_tells(listen: Open) -> None:
    (listener,) = listen("127.0.0.1:0")
    port = listener.socket.getsockname()[1]
    assert port > 0
    assert listener.name == f"127.0.0.1:{port}"
    assert listener.url == f"http://127.0.0.1:{port}/"
    assert (listener.server_name, listener.server_port) == ("127.0.0.1", str(port))
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        connection, _ = listener.socket.accept()
        connection.close()


def test_listeners_do_not_block_and_are_not_inherited(listen: Open) -> None:
    (listener,) = listen("127.0.0.1:0")
    assert not listener.socket.get_inheritable()
    with pytest.raises(BlockingIOError):
        listener.socket.accept()


def test_the_address_that_means_all_is_shown_as_one_that_can_be_clicked(listen: Open) -> None:
    (listener,) = listen("0.0.0.0:0")
    assert listener.name.startswith("0.0.0.0:")
    assert listener.url.startswith("http://127.0.0.1:")


def test_an_inherited_descriptor_is_the_same_listener(listen: Open) -> None:
    (listener,) = listen("127.0.0.1:0")
    copy = Listener.from_fd(os.dup(listener.socket.fileno()), listener.bind)
    with copy.socket:
        assert (copy.name, copy.url) == (listener.name, listener.url)


def test_a_port_in_use_names_the_process_that_has_it(listen: Open) -> None:
    (listener,) = listen("127.0.0.1:0")
    with pytest.raises(BindError) as refusal:
        listen(listener.name)
    assert refusal.value.exit_code is ExitCode.CANNOT_BIND
    assert f"port {listener.server_port} is in use by" in str(refusal.value)
    assert f"(pid {os.getpid()})" in str(refusal.value)


def test_nobody_is_named_for_a_port_that_nobody_has() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    assert describe_holder(port) == ""


def test_a_holder_that_may_not_be_looked_at_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(
        "  sl  local_address rem_address   st\n"
        "   0: 0100007F:1F40 00000000:0000 0A 0:0 0:0 0 0 0 4711 1\n"
    )
    (tmp_path / "1").mkdir()
    assert describe_holder(8000, tmp_path) == ""


def test_one_bad_address_leaves_none_open(listen: Open, tmp_path: Path) -> None:
    path = tmp_path / "site.sock"
    (taken,) = listen("127.0.0.1:0")
    with pytest.raises(BindError):
        listen(f"unix:{path}", taken.name)
    assert not path.exists()


@pytest.mark.parametrize(
    ("bind", "part"),
    [
        ("203.0.113.7:0", "is not an address of this machine"),
        ("no-such-host.invalid:80", "is unknown"),
        ("8000", "is not an address"),
        ("127.0.0.1:http", "is not an address"),
        ("127.0.0.1:70000", "is not an address"),
        ("::1:8000", "is not an address"),
        ("fd://three", "does not name a descriptor"),
        ("fd://9999", "is not an open socket"),
    ],
)
def test_an_address_that_cannot_be_had_says_why(listen: Open, bind: str, part: str) -> None:
    with pytest.raises(BindError, match=part):
        listen(bind)


@pytest.mark.parametrize(
    ("bind", "address"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:80", ("::1", 80)), (":80", ("", 80))],
)
def test_host_and_port_are_told_apart(bind: str, address: tuple[str, int]) -> None:
    assert split_host_port(bind) == address


def test_a_descriptor_that_does_not_listen_is_refused_and_stays_open(listen: Open) -> None:
    with socket.socket() as sock:
        with pytest.raises(BindError, match="not a listening stream socket"):
            listen(f"fd://{sock.fileno()}")
        assert os.fstat(sock.fileno())


@needs_ipv6
def test_ipv6_is_written_in_brackets(listen: Open) -> None:
    (listener,) = listen("[::1]:0")
    assert listener.name == f"[::1]:{listener.server_port}"
    assert listener.family == socket.AF_INET6


@needs_ipv6
def test_all_of_ipv6_serves_ipv4_unless_ipv4_is_listened_on_too(listen: Open) -> None:
    (alone,) = listen("[::]:0")
    assert alone.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
    beside, _ = listen("[::]:0", "127.0.0.1:0")
    assert beside.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_a_unix_socket_has_the_rights_it_was_given(listen: Open, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "site.sock"
    before = os.umask(0o022)
    try:
        (listener,) = listen(f"unix:{path}", socket_mode=mode)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert listener.name == f"unix:{path}"


def test_a_stale_unix_socket_is_replaced(listen: Open, tmp_path: Path) -> None:
    path = tmp_path / "site.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listen(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        assert client.connect_ex(str(path)) == 0


def test_a_live_unix_socket_is_refused_and_stays(listen: Open, tmp_path: Path) -> None:
    path = tmp_path / "site.sock"
    listen(f"unix:{path}")
    with pytest.raises(BindError, match="a running server listens there"):
        listen(f"unix:{path}")
    assert path.is_socket()


def test_a_stale_unix_socket_that_cannot_be_removed_is_a_bind_error(
    listen: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "s.sock"))

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)  # root, who may run this, removes anything
    with pytest.raises(BindError, match="removing it failed: Permission denied") as refusal:
        listen(f"unix:{tmp_path / 's.sock'}")
    assert "as its owner" in str(refusal.value)


def test_a_file_that_is_no_socket_is_refused_and_stays(listen: Open, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(BindError, match="is not a socket"):
        listen(f"unix:{path}")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["missing/site.sock", "x" * 120])
def test_a_path_that_cannot_be_bound_is_a_bind_error(
    listen: Open, tmp_path: Path, name: str
) -> None:
    with pytest.raises(BindError, match="cannot listen on"):
        listen(f"unix:{tmp_path / name}")


def test_our_socket_file_is_removed(listen: Open, tmp_path: Path) -> None:
    path = tmp_path / "site.sock"
    (listener,) = listen(f"unix:{path}")
    remove_socket_file(listener)
    assert not path.exists()


def test_a_socket_file_that_another_server_put_there_is_left(listen: Open, tmp_path: Path) -> None:
    path = tmp_path / "site.sock"
    (first,) = listen(f"unix:{path}")
    path.rename(tmp_path / "moved.sock")
    listen(f"unix:{path}")
    remove_socket_file(first)
    assert path.is_socket()


def test_a_socket_file_taken_over_from_the_parent_is_left(listen: Open, tmp_path: Path) -> None:
    path = tmp_path / "site.sock"
    (made,) = listen(f"unix:{path}")
    (taken,) = listen(f"fd://{os.dup(made.socket.fileno())}")
    remove_socket_file(taken)
    assert path.is_socket()
