"""The load client itself: a server that misbehaves on purpose must never look healthy."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable

import pytest

from tests.integration.load_client import WRONG, LoadClient
from tests.integration.wire import Breakage

Misbehave = Callable[[socket.socket, str], None]
RST_ON_CLOSE = struct.pack("ii", 1, 0)


def respond(connection: socket.socket, body: str, *, announced: int | None = None) -> None:
    length = len(body) if announced is None else announced
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}".encode())


def answer_with_another_token(connection: socket.socket, token: str) -> None:
    respond(connection, f"x{token} one 1")


def break_off_within_the_body(connection: socket.socket, token: str) -> None:
    respond(connection, f"{token} one 1", announced=1000)


def close_without_an_answer(connection: socket.socket, token: str) -> None:
    """Just return: the connection is closed next."""


def reset_the_connection(connection: socket.socket, token: str) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)


def answer_in_another_language(connection: socket.socket, token: str) -> None:
    connection.sendall(b"220 mail.example ESMTP\r\n\r\n")


class ScriptedServer:
    """Answers `right` requests as it should, then misbehaves once per connection."""

    def __init__(self, right: int, misbehave: Misbehave | None = None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.right = right
        self.misbehave = misbehave
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self.listener.getsockname()
        return host, port

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        while head := connection.recv(4096).decode():
            token = head.split()[1].partition("token=")[2]
            self.right -= 1
            if self.right < 0 and self.misbehave:
                return self.misbehave(connection, token)
            respond(connection, f"{token} one 1")
        return None


@pytest.mark.parametrize(
    ("misbehave", "kind"),
    [
        (answer_with_another_token, WRONG),
        (break_off_within_the_body, Breakage.SHORT.value),
        (close_without_an_answer, Breakage.MISSING.value),
        (reset_the_connection, Breakage.RESET.value),
        (answer_in_another_language, Breakage.MALFORMED.value),
    ],
)
def test_one_wrong_answer_among_many_right_ones_is_counted(misbehave: Misbehave, kind: str) -> None:
    server = ScriptedServer(20, misbehave)
    with LoadClient(server.address, clients=1) as load:
        load.wait_for_answers(10**9)  # returns at the first loss
        tally = load.stop()
    server.listener.close()
    assert tally.lost[kind] > 0
    assert tally.answered == 20


def test_a_refused_connection_is_counted() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    listener.close()
    with LoadClient(address, clients=1) as load:
        load.wait_for_answers(1)
        tally = load.stop()
    assert set(tally.lost) == {Breakage.REFUSED.value}


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_server_that_answers_everything_loses_nothing(keep_alive: bool) -> None:
    server = ScriptedServer(0)
    with LoadClient(server.address, clients=1, keep_alive=keep_alive) as load:
        load.wait_for_answers(50)
        tally = load.stop()
    server.listener.close()
    assert tally.answered >= 50
    assert not tally.lost
    assert tally.versions.total() == tally.answered
