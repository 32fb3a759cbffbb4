"""The request that a worker sends to itself, and what it makes of the answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_wsgiserve.workers.probe import Probe


@pytest.fixture
def probe() -> Iterator[Probe]:
    made = Probe("/warm?x=1", "site.example", "https")
    yield made
    made.close()


def test_the_request_is_whole_and_its_own_last(probe: Probe) -> None:
    with probe.connect() as server:
        assert server.recv(1000) == (
            b"GET /warm?x=1 HTTP/1.1\r\nHost: site.example\r\nX-Forwarded-Proto: https\r\n"
            b"User-Agent: django-wsgiserve\r\nConnection: close\r\n\r\n"
        )


def test_an_answer_in_pieces_is_told_once_its_status_is_whole(probe: Probe) -> None:
    told: list[int] = []
    with probe.connect() as server:
        assert not probe.read(told.append)
        for piece in (b"HTTP/1", b".1 30"):
            server.send(piece)
            assert not probe.read(told.append)
        server.send(b"2 Found\r\n")
        assert probe.read(told.append)
    assert told == [302]


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 2"])
def test_an_end_without_an_answer_is_status_0(probe: Probe, sent: bytes) -> None:
    told: list[int] = []
    server = probe.connect()
    server.send(sent)
    server.recv(1000)
    server.close()
    while not probe.read(told.append):
        pass
    assert told == [0]


def test_a_broken_connection_is_status_0(probe: Probe) -> None:
    told: list[int] = []
    probe.connect().close()  # with the request unread: the client's end is reset
    assert probe.read(told.append)
    assert told == [0]


def test_a_probe_that_is_over_has_nothing_to_watch(probe: Probe) -> None:
    told: list[int] = []
    assert probe.fileno() == -1
    with probe.connect():
        assert probe.fileno() > 2
        probe.close()
    probe.close()
    assert probe.fileno() == -1
    assert probe.read(told.append)
    assert told == []
