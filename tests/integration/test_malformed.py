"""Malformed requests: the right 4xx, a closed connection, one log line, and no application."""

from __future__ import annotations

import itertools

import pytest

from tests.integration.conftest import RunServer
from tests.integration.running_server import RunningServer

HOST = b"Host: localhost\r\n"
POST = b"POST /echo HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

MALFORMED: dict[str, tuple[int, bytes]] = {
    "tls hello": (400, b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n"),
    "no version": (400, b"GET /\r\n\r\n"),
    "http 2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "version zero": (505, b"GET / HTTP/0.9\r\n" + HOST + b"\r\n"),
    "version in lower case": (400, b"GET / http/1.1\r\n" + HOST + b"\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n"),
    "space in the target": (400, b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n"),
    "method with a bracket": (400, b"GE[T / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "space before the colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X : y\r\n\r\n"),
    "folded field": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n z\r\n\r\n"),
    "field without colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n"),
    "bare line feeds": (400, b"GET / HTTP/1.1\nHost: localhost\n\n\r\n\r\n"),
    "null byte": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n"),
    "bare carriage return": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n"),
    "length and coding": (400, POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "two lengths": (400, POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    "length with a sign": (400, POST + b"Content-Length: +3\r\n\r\nabc"),
    "length in hexadecimal": (400, POST + b"Content-Length: 0x3\r\n\r\nabc"),
    "length with underscore": (400, POST + b"Content-Length: 1_0\r\n\r\n0123456789"),
    "unknown coding": (501, POST + b"Transfer-Encoding: gzip\r\n\r\n"),
    "chunked not last": (400, POST + b"Transfer-Encoding: chunked, identity\r\n\r\n"),
    "chunked twice": (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n"),
    "coding in 1.0": (
        400,
        b"POST /echo HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n",
    ),
    "chunk size is no number": (400, CHUNKED + b"xyz\r\n"),
    "chunk size with sign": (400, CHUNKED + b"-1\r\nabc\r\n"),
    "chunk without its end": (400, CHUNKED + b"3\r\nabcXX0\r\n\r\n"),
    "unknown expectation": (417, POST + b"Expect: miracles\r\nContent-Length: 3\r\n\r\nabc"),
    "request line too long": (414, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "request line without end": (414, b"GET /" + b"a" * 20_000),
    "field too long": (
        431,
        b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9000 + b"\r\n\r\n",
    ),
    "too many fields": (
        431,
        b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: y\r\n" % n for n in range(101)) + b"\r\n",
    ),
    "body too large": (413, POST + b"Content-Length: 1073741825\r\n\r\n"),
}

_markers = itertools.count()


def mark(server: RunningServer) -> str:
    """Make a request whose line in the access log shows where others stand."""
    marker = f"/raw/count?marker-{next(_markers)}-"
    assert server.get(marker).status == 200
    server.access.wait_for(marker.replace("?", r"\?") + ".*\n")
    return marker


def lines_between(server: RunningServer, first: str, last: str) -> list[str]:
    text = server.access.text
    between = text[text.index(first) : text.index(last)]
    return between.splitlines()[1:-1]


def calls(server: RunningServer) -> int:
    return int(server.get("/raw/count").body)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_answered_logged_once_and_never_reaches_the_application(
    site: RunningServer, name: str
) -> None:
    status, request = MALFORMED[name]
    first = mark(site)
    before = calls(site)
    with site.connect() as wire:
        wire.send(request)
        answer = wire.receive()
        assert wire.is_closed_by_server
    after = calls(site)
    last = mark(site)
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"].startswith("text/html")
    assert 0 < len(answer.body) < 2000
    assert b"Traceback" not in answer.body
    assert b"wsgiserve/" not in answer.body
    assert after == before + 1
    logged = [line for line in lines_between(site, first, last) if "/raw/count" not in line]
    assert len(logged) == 1, logged
    assert f" {status} " in logged[0]


def test_what_follows_a_malformed_request_on_its_connection_is_never_read(
    site: RunningServer,
) -> None:
    before = calls(site)
    with site.connect() as wire:
        wire.send(b"GET / HTTP/1.1\r\n\r\nGET /raw/count HTTP/1.1\r\n" + HOST + b"\r\n")
        assert wire.receive().status == 400
        assert wire.until_close() == b""
    assert calls(site) == before + 1


def test_requests_before_a_malformed_one_are_answered(site: RunningServer) -> None:
    with site.connect() as wire:
        wire.send(b"GET /hello?token=a HTTP/1.1\r\n" + HOST + b"\r\n" + b"GET\r\n\r\n")
        assert wire.receive().body.startswith(b"a ")
        assert wire.receive().status == 400
        assert wire.is_closed_by_server


def test_a_request_that_ends_within_its_head_is_logged_and_never_called(
    site: RunningServer,
) -> None:
    before = calls(site)
    with site.connect() as wire:
        wire.send(b"GET /broken-off-head HTTP/1.1\r\nHo")
    site.access.wait_for("broken-off-head")
    assert calls(site) == before + 1


def test_a_connection_without_a_byte_leaves_no_line(site: RunningServer) -> None:
    first = mark(site)
    with site.connect():
        pass
    last = mark(site)
    assert lines_between(site, first, last) == []


def test_a_head_that_takes_too_long_is_answered_with_408(run_server: RunServer) -> None:
    server = run_server("-w", "1", "--header-timeout", "1")
    with server.connect() as wire:
        wire.send(b"GET /too-slow-head HTTP/1.1\r\nHost: loc")
        assert wire.receive().status == 408
        assert wire.is_closed_by_server
    assert "408" in server.access.wait_for("too-slow-head")


def test_a_body_that_stops_coming_is_answered_with_408(run_server: RunServer) -> None:
    server = run_server("-w", "1", "--body-timeout", "1")
    with server.connect() as wire:
        wire.send(b"POST /stalled-body HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nhalf")
        assert wire.receive().status == 408
        assert wire.is_closed_by_server
    assert "408" in server.access.wait_for("stalled-body")


def test_an_idle_connection_is_closed_after_keepalive_without_a_word(
    run_server: RunServer,
) -> None:
    server = run_server("-w", "1", "--keepalive", "1")
    with server.connect() as wire:
        assert wire.request("GET", "/hello").status == 200
        assert wire.until_close() == b""


def test_the_limits_of_the_settings_are_held(run_server: RunServer) -> None:
    server = run_server(
        "-w", "1", "--limit-request-line", "100", "--limit-request-fields", "3",
        "--limit-request-field-size", "50", "--limit-request-body", "10",
    )  # fmt: skip
    long_path = "/" + "a" * 100
    assert server.get(long_path).status == 414
    assert server.get("/hello", "A: 1", "B: 2").status == 431  # with Host and Connection
    assert server.get("/hello", "A: " + "a" * 60).status == 431
    with server.connect() as wire:
        assert wire.request("POST", "/echo", body=b"x" * 11).status == 413
    with server.connect() as wire:
        wire.send(CHUNKED + b"b\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n")
        assert wire.receive().status == 413
    with server.connect() as wire:
        assert wire.request("POST", "/echo", body=b"x" * 10).status == 200
