"""HTTP/1.1 as its clients use it."""

from __future__ import annotations

import hashlib
import json
from email.utils import parsedate_to_datetime

import pytest

from tests.integration.conftest import RunServer
from tests.integration.running_server import RunningServer
from tests.integration.wire import Answer

HOST = b"Host: localhost\r\n"


def digest_of(answer: Answer) -> tuple[str, int]:
    reported = json.loads(answer.body)
    return reported["sha256"], reported["bytes"]


def test_a_connection_serves_many_requests(site: RunningServer) -> None:
    with site.connect() as wire:
        for number in range(50):
            answer = wire.request("GET", f"/hello?token={number}")
            assert answer.body.split()[0] == b"%d" % number
            assert answer.keeps_alive


def test_pipelined_requests_are_answered_in_order(site: RunningServer) -> None:
    requests = [b"GET /hello?token=%d HTTP/1.1\r\n" % n + HOST + b"\r\n" for n in range(100)]
    with site.connect() as wire:
        wire.send(b"".join(requests))
        tokens = [wire.receive().body.split()[0] for _ in requests]
    assert tokens == [b"%d" % n for n in range(100)]


def test_pipelined_uploads_keep_their_bodies_apart(site: RunningServer) -> None:
    bodies = [b"a" * 10, b"", b"b" * 70_000, b"c"]
    request = b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n%b"
    with site.connect() as wire:
        wire.send(b"".join(request % (len(body), body) for body in bodies))
        digests = [digest_of(wire.receive()) for _ in bodies]
    assert digests == [(hashlib.sha256(body).hexdigest(), len(body)) for body in bodies]


def test_a_request_that_comes_byte_by_byte_is_understood(site: RunningServer) -> None:
    request = b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc"
    with site.connect() as wire:
        for byte in request:
            wire.send(bytes([byte]))
        assert digest_of(wire.receive()) == (hashlib.sha256(b"abc").hexdigest(), 3)


@pytest.mark.parametrize("size", [0, 1, 1000, 3_000_000])
def test_a_chunked_upload_arrives_whole(site: RunningServer, size: int) -> None:
    body = bytes(n % 251 for n in range(size))
    pieces = [body[n : n + 65_521] for n in range(0, size, 65_521)]
    with site.connect() as wire:
        wire.send(b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            wire.send(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece))
        wire.send(b"0\r\nX-Trailer: ignored\r\n\r\n")
        assert digest_of(wire.receive()) == (hashlib.sha256(body).hexdigest(), size)
        assert wire.request("GET", "/hello").status == 200


def test_a_client_that_expects_it_is_told_to_continue(site: RunningServer) -> None:
    with site.connect() as wire:
        wire.send(
            b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
        interim = wire.receive()
        assert interim.status == 100
        wire.send(b"abc")
        final = wire.receive()
        assert final.status == 200
        assert digest_of(final)[1] == 3
        assert wire.request("GET", "/hello").status == 200


def test_continue_is_not_said_to_a_body_that_will_not_be_read(site: RunningServer) -> None:
    with site.connect() as wire:
        wire.send(
            b"POST /echo HTTP/1.1\r\n" + HOST
            + b"Content-Length: 1073741825\r\nExpect: 100-continue\r\n\r\n"
        )  # fmt: skip
        assert wire.receive().status == 413
        assert wire.is_closed_by_server


def test_continue_is_not_said_to_an_old_client(site: RunningServer) -> None:
    with site.connect() as wire:
        wire.send(
            b"POST /echo HTTP/1.0\r\n" + HOST
            + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"
        )  # fmt: skip
        assert wire.receive().status == 200


def test_head_is_answered_like_get_without_the_body(site: RunningServer) -> None:
    with site.connect() as wire:
        full = wire.request("GET", "/large?bytes=5000")
        head = wire.request("HEAD", "/large?bytes=5000")
        assert head.status == 200
        assert head.headers["content-length"] == full.headers["content-length"] == "5000"
        assert wire.request("GET", "/hello?token=next").body.startswith(b"next ")


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_leaves_the_connection_usable(
    site: RunningServer, status: int
) -> None:
    with site.connect() as wire:
        answer = wire.request("GET", f"/status/{status}")
        assert answer.status == status
        assert "transfer-encoding" not in answer.headers
        assert wire.request("GET", "/hello?token=next").body.startswith(b"next ")


def test_an_old_client_gets_its_connection_closed(site: RunningServer) -> None:
    with site.connect() as wire:
        wire.send(b"GET /hello?token=old HTTP/1.0\r\n\r\n")
        answer = wire.receive()
        assert wire.is_closed_by_server
    assert answer.status in {200, 400}  # without a Host, ALLOWED_HOSTS decides


def test_an_old_client_that_asks_for_it_keeps_its_connection(site: RunningServer) -> None:
    request = b"GET /hello?token=%d HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n"
    with site.connect() as wire:
        for number in range(3):
            wire.send(request % number)
            answer = wire.receive()
            assert answer.headers["connection"].lower() == "keep-alive"
            assert answer.body.split()[0] == b"%d" % number


def test_close_is_honoured_and_said(site: RunningServer) -> None:
    with site.connect() as wire:
        answer = wire.request("GET", "/hello", "Connection: close")
        assert answer.headers["connection"] == "close"
        assert wire.is_closed_by_server


def test_a_stream_is_chunked_and_the_connection_lives_on(site: RunningServer) -> None:
    with site.connect() as wire:
        answer = wire.request("GET", "/stream?lines=1000")
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body == b"".join(b"line %d\n" % n for n in range(1000))
        assert wire.request("GET", "/hello").status == 200


def test_a_stream_to_an_old_client_ends_with_its_connection(site: RunningServer) -> None:
    with site.connect() as wire:
        wire.send(b"GET /stream HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n")
        answer = wire.receive()
    assert "transfer-encoding" not in answer.headers
    assert not answer.keeps_alive
    assert answer.body == b"line 0\nline 1\nline 2\n"


def test_a_proxys_absolute_target_names_the_host(site: RunningServer) -> None:
    with site.connect() as wire:
        wire.send(b"GET http://site.example/whoami?a=b HTTP/1.1\r\nHost: localhost\r\n\r\n")
        seen = json.loads(wire.receive().body)
    assert seen["host"] == "site.example"
    assert seen["path"] == "/whoami"


def test_the_path_reaches_django_decoded(site: RunningServer) -> None:
    with site.connect() as wire:
        assert wire.request("GET", "/%77hoami").status == 200
        assert wire.request("GET", "/gr%C3%BC%C3%9Fe").status == 404


def test_every_answer_has_a_date_and_names_the_server(site: RunningServer) -> None:
    answer = site.get("/hello")
    assert parsedate_to_datetime(answer.headers["date"]).tzinfo is not None
    assert answer.headers["server"]


def test_the_server_header_can_be_turned_off(run_server: RunServer) -> None:
    server = run_server("-w", "1", "--no-server-header")
    answer = server.get("/hello")
    assert "server" not in answer.headers
    assert "date" in answer.headers


def test_empty_lines_before_a_request_are_forgiven(site: RunningServer) -> None:
    with site.connect() as wire:
        wire.send(b"\r\n\r\nGET /hello?token=t HTTP/1.1\r\n" + HOST + b"\r\n")
        assert wire.receive().body.startswith(b"t ")
