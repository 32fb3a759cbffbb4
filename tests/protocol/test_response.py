"""What the encoder writes, and what it refuses to."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest

from django_wsgiserve.errors import ResponseError
from django_wsgiserve.protocol import response
from django_wsgiserve.protocol.grammar import parse_head
from django_wsgiserve.protocol.messages import Limits, RequestHead
from django_wsgiserve.protocol.response import ResponseEncoder, error_response, whole_head
from tests.protocol.reading import calls_of

DATE_LINE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
SERVER_LINE = b"Server: django-wsgiserve\r\n"
DATE = DATE_LINE + SERVER_LINE


def request(method: str = "GET", version: str = "1.1", connection: str = "") -> RequestHead:
    """Return a request that asks for nothing special."""
    lines = [f"{method} / HTTP/{version}", "Host: example.org"]
    if connection:
        lines.append(f"Connection: {connection}")
    return parse_head("\r\n".join(lines).encode(), Limits())


def encoder(
    method: str = "GET", version: str = "1.1", *, connection: str = "", keep_alive: bool = True
) -> ResponseEncoder:
    """Return the encoder of the answer to such a request."""
    return ResponseEncoder(request(method, version, connection), keep_alive=keep_alive, date=DATE)


def test_head_is_status_headers_date_framing_in_this_order() -> None:
    answer = encoder()
    head = answer.head("200 OK", [("Content-Type", "text/plain"), ("X-A", "b")], 5)
    assert head == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-A: b\r\n" + DATE
        + b"Content-Length: 5\r\n\r\n"
    )  # fmt: skip
    assert answer.keep_alive
    assert answer.has_body
    assert answer.raw
    assert answer.data(b"hello") == b"hello"
    assert answer.end() == b""


def test_body_of_unknown_length_is_chunked_for_http_1_1() -> None:
    answer = encoder()
    assert b"\r\nTransfer-Encoding: chunked\r\n" in answer.head("200 OK", [], None)
    assert answer.keep_alive
    assert not answer.raw
    assert answer.data(b"0123456789ab") == b"c\r\n0123456789ab\r\n"
    assert answer.data(b"") == b"", "an empty chunk would end the body"
    assert answer.end() == b"0\r\n\r\n"


def test_body_of_unknown_length_ends_with_the_connection_for_http_1_0() -> None:
    answer = encoder(version="1.0", connection="keep-alive")
    head = answer.head("200 OK", [], None)
    assert b"Transfer-Encoding" not in head
    assert b"\r\nConnection: close\r\n" in head
    assert not answer.keep_alive
    assert answer.raw
    assert answer.data(b"hello") == b"hello"
    assert answer.end() == b""


def test_unreadable_request_is_answered_without_chunks_and_closed() -> None:
    answer = ResponseEncoder(None, keep_alive=True, date=DATE)
    head = answer.head("400 Bad Request", [], None)
    assert b"Transfer-Encoding" not in head
    assert b"\r\nConnection: close\r\n" in head
    assert not answer.keep_alive


@pytest.mark.parametrize(
    ("version", "connection", "willing", "line"),
    [
        ("1.1", "", True, None),
        ("1.1", "", False, b"Connection: close"),
        ("1.1", "close", True, b"Connection: close"),
        ("1.0", "", True, b"Connection: close"),
        ("1.0", "keep-alive", True, b"Connection: keep-alive"),
        ("1.0", "keep-alive", False, b"Connection: close"),
    ],
)
def test_connection_persists_when_both_sides_want_it(
    version: str, connection: str, *, willing: bool, line: bytes | None
) -> None:
    answer = encoder(version=version, connection=connection, keep_alive=willing)
    lines = answer.head("200 OK", [], 0).split(b"\r\n")
    assert [each for each in lines if each.startswith(b"Connection")] == ([line] if line else [])
    assert answer.keep_alive == (line != b"Connection: close")


@pytest.mark.parametrize("value", ["close", "Close", " close "])
def test_application_may_close_the_connection(value: str) -> None:
    answer = encoder()
    head = answer.head("200 OK", [("Connection", value)], 0)
    assert head.count(b"onnection") == 1
    assert b"\r\nConnection: close\r\n" in head
    assert not answer.keep_alive


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "status", ["200 OK", "204 No Content", "304 Not Modified", "404 Not Found"]
)
def test_content_length_is_kept_except_on_204(method: str, status: str) -> None:
    answer = encoder(method)
    head = answer.head(status, [("content-length", "5")], 5)
    assert (b"\r\ncontent-length: 5\r\n" in head) == (status != "204 No Content")
    assert b"Content-Length" not in head
    assert b"Transfer-Encoding" not in head
    assert answer.keep_alive
    assert answer.has_body == (method == "GET" and status[0] in "24" and status[:3] != "204")
    assert answer.raw == answer.has_body
    if not answer.has_body:
        assert answer.data(b"dropped, however long") == b""
        assert answer.end() == b""


@pytest.mark.parametrize(
    ("method", "status", "body_bytes", "expected"),
    [
        ("GET", "200 OK", 0, True),
        ("HEAD", "200 OK", 7, True),
        ("HEAD", "200 OK", 0, False),  # no body is what HEAD asked for, not GET's length
        ("HEAD", "200 OK", None, False),
        ("GET", "204 No Content", 0, False),
        ("GET", "304 Not Modified", 0, False),
    ],
)
def test_content_length_is_added_where_it_is_true(
    method: str, status: str, body_bytes: int | None, *, expected: bool
) -> None:
    head = encoder(method).head(status, [], body_bytes)
    assert (b"\r\nContent-Length: " in head) == expected
    assert b"Transfer-Encoding" not in head


@pytest.mark.parametrize("name", ["Date", "date", "Server", "SERVER"])
def test_date_and_server_of_the_application_replace_ours(name: str) -> None:
    head = encoder().head("200 OK", [(name, "mine")], 0)
    assert head.lower().count(b"\r\n" + name.lower().encode() + b":") == 1
    assert f"\r\n{name}: mine\r\n".encode() in head
    assert (SERVER_LINE if name.lower() == "date" else DATE_LINE) in head


def test_body_longer_than_its_content_length_is_not_sent() -> None:
    answer = encoder()
    answer.head("200 OK", [("Content-Length", "5")], None)
    assert answer.data(b"hell") == b"hell"
    with pytest.raises(ResponseError, match="longer than its Content-Length of 5"):
        answer.data(b"o!")


def test_body_shorter_than_its_content_length_is_an_error_at_its_end() -> None:
    answer = encoder()
    answer.head("200 OK", [("Content-Length", "5")], None)
    answer.data(b"hell")
    with pytest.raises(ResponseError, match="1 bytes short"):
        answer.end()


@pytest.mark.parametrize("known", [5, None])
@pytest.mark.parametrize("headers", [[], [("Content-Length", "5")]])
@pytest.mark.parametrize("status", ["200 OK", "204 No Content"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_whole_response_is_what_its_parts_are(
    method: str, version: str, status: str, headers: list[tuple[str, str]], known: int | None
) -> None:
    parts = encoder(method, version)
    head = parts.head(status, headers, known)
    answer = encoder(method, version)
    assert answer.whole(status, headers, b"hello", known) == (
        head,
        parts.data(b"hello") + parts.end(),
    )
    assert answer.end() == parts.end()
    assert answer.keep_alive == parts.keep_alive


@pytest.mark.parametrize(("length", "reason"), [("4", "longer"), ("6", "short")])
def test_whole_response_of_another_length_than_it_says_is_refused(length: str, reason: str) -> None:
    with pytest.raises(ResponseError, match=reason):
        encoder().whole("200 OK", [("Content-Length", length)], b"hello", 5)


@pytest.mark.parametrize("status", ["200 OK", "200 ", "299 Ça va", "999 \t~", "500 A  B"])
def test_status_may_be_any_code_and_reason(status: str) -> None:
    assert encoder().head(status, [], 0).startswith(f"HTTP/1.1 {status}\r\n".encode("latin-1"))


@pytest.mark.parametrize(
    "status",
    [
        "", "200", "20 OK", "2000 OK", "2x0 OK", " 200 OK", "200\tOK", "200 OK\r\nX: y", "200 OK\n",
        "200 \x00", "200 \u20ac", "\u0662\u0660\u0660 OK", "100 Continue",
        "101 Switching Protocols", "199 x", "000 x", "099 x", b"200 OK", 200, None, ["200 OK"],
    ],
)  # fmt: skip
def test_status_that_is_none_is_refused(status: Any) -> None:
    with pytest.raises(ResponseError):
        encoder().head(status, [], 0)


@pytest.mark.parametrize(
    "name", ["", "X Y", "X:", "X\r\n", "\u00c4", "X\x00", "X(", b"X", 5, None, []]
)
def test_header_name_that_is_no_token_is_refused(name: Any) -> None:
    with pytest.raises(ResponseError):
        encoder().head("200 OK", [(name, "y")], 0)


@pytest.mark.parametrize(
    "value",
    [
        "a\r\nSet-Cookie: b", "a\nb", "a\rb", "\r\n", "a\x00", "a\x1b[0m", "\x7f", "\u20ac",
        b"a", 5, None,
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["X-A", "Content-Length", "Connection", "Date"])
def test_header_value_that_could_break_the_head_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ResponseError):
        encoder().head("200 OK", [(name, value)], 0)


def test_header_value_may_hold_tab_and_latin_1() -> None:
    assert b"\r\nX-A: \xe9\tb\r\n" in encoder().head("200 OK", [("X-A", "\xe9\tb")], 0)


def test_strings_of_a_subclass_are_strings() -> None:
    class Text(str):
        __slots__ = ()

    head = encoder().head(Text("200 OK"), [(Text("X-Text"), Text("b"))], 0)
    assert b"\r\nX-Text: b\r\n" in head


@pytest.mark.parametrize(
    "header",
    [
        ("Connection", "keep-alive"), ("Connection", "upgrade"), ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"), ("Proxy-Authorization", "x"),
        ("Proxy-Connection", "close"), ("TE", "trailers"), ("Trailer", "X"), ("Trailers", "X"),
        ("Transfer-Encoding", "chunked"), ("transfer-encoding", "identity"), ("UPGRADE", "h2c"),
    ],
)  # fmt: skip
def test_headers_about_the_connection_are_refused(header: tuple[str, str]) -> None:
    with pytest.raises(ResponseError, match="about the connection"):
        encoder().head("200 OK", [header], 0)


@pytest.mark.parametrize(
    "value", ["", "-1", "+1", "1_0", "5, 5", " 5", "0x5", "\xb2", "5.0", "9" * 19]
)
def test_content_length_that_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(ResponseError, match="is not a number"):
        encoder().head("200 OK", [("Content-Length", value)], None)


def test_content_length_is_given_once() -> None:
    with pytest.raises(ResponseError, match="two Content-Length"):
        encoder().head("200 OK", [("Content-Length", "5"), ("content-length", "5")], None)


@pytest.mark.parametrize(
    "headers", [None, 5, [None], [("X",)], [("X", "y", "z")], ["XYZ"], {"X-A": "b"}]
)
def test_headers_that_are_no_list_of_pairs_are_refused(headers: Any) -> None:
    with pytest.raises(ResponseError):
        encoder().head("200 OK", headers, 0)


def test_head_is_made_once() -> None:
    answer = encoder()
    answer.head("200 OK", [], 0)
    with pytest.raises(ResponseError, match="already"):
        answer.head("200 OK", [], 0)


def test_nothing_comes_before_the_head() -> None:
    answer = encoder()
    with pytest.raises(ResponseError, match="before the response head"):
        answer.data(b"x")
    with pytest.raises(ResponseError, match="before its head"):
        answer.end()


@pytest.mark.parametrize("piece", ["text", None, 5, bytearray(b"x"), [b"x"]])
def test_body_is_bytes(piece: Any) -> None:
    answer = encoder()
    answer.head("200 OK", [], None)
    with pytest.raises(ResponseError, match="is not bytes"):
        answer.data(piece)


def test_invented_names_and_reasons_are_not_remembered_without_bound() -> None:
    for number in range(1500):
        head = encoder().head(f"200 Number {number}", [(f"X-{number}", "y")], 0)
        assert head.startswith(f"HTTP/1.1 200 Number {number}\r\nX-{number}: y\r\n".encode())
    assert len(response._names) <= 1024
    assert len(response._codes) <= 1024


@pytest.mark.parametrize("status", [status for status in HTTPStatus if status >= 400])
def test_error_page_says_its_status_and_nothing_else(status: HTTPStatus) -> None:
    head, _, page = error_response(status, DATE).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()))
    assert b"\r\nContent-Length: %d" % len(page) in head
    assert b"\r\nConnection: close" in head
    assert DATE in head + b"\r\n"
    assert page.startswith(b"<!doctype html>")
    assert b"<title>%d " % status in page
    assert error_response(status, DATE, body=False) == head + b"\r\n\r\n"


DJANGO_HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("X-Frame-Options", "DENY"),
    ("Content-Length", "5"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
]


@pytest.mark.parametrize(
    ("status", "headers", "body_bytes"),
    [
        ("204 No Content", [], 0),
        ("304 Not Modified", [("ETag", '"a"')], 0),
        ("200", [], 5),
        (200, [], 5),
        ("200 OK", [("Content-Length", "5"), ("Content-Length", "5")], 5),
        ("200 OK", [("Content-Length", "05")], 5),
        ("200 OK", [("Content-Length", "4")], 5),
        ("200 OK", [("Date", "now")], 5),
        ("200 OK", [("Connection", "close")], 5),
        ("200 OK", [("Transfer-Encoding", "chunked")], 5),
        ("200 OK", [("X-A", 5)], 5),
        ("200 OK", [("X-A", "\u20ac")], 5),
        ("200 OK", [("X-A", "b\r\nX-C: d")], 5),
        ("200 OK\r\nX-C: d", [], 5),
        ("200 OK", [("X A", "b")], 5),
        ("200 OK", [(["X-A"], "b")], 5),
        ("200 OK", [("X-A",)], 5),
        ("200 OK", None, 5),
    ],
)
def test_what_is_special_is_left_to_the_encoder(status: Any, headers: Any, body_bytes: int) -> None:
    assert whole_head(status, headers, body_bytes, DATE) is None


@pytest.mark.parametrize("headers", [[], DJANGO_HEADERS, DJANGO_HEADERS[:2]])
def test_head_of_a_whole_response_is_that_of_the_encoder(headers: list[tuple[str, str]]) -> None:
    assert whole_head("200 OK", headers, 5, DATE) == encoder().head("200 OK", headers, 5)
    for version in ("1.0", "1.1"):
        closing = encoder(version=version, keep_alive=False)
        quick = whole_head("200 OK", headers, 5, DATE, keep_alive=False)
        assert quick == closing.head("200 OK", headers, 5)


def test_head_of_a_whole_response_costs_three_calls() -> None:
    def make() -> None:
        whole_head("200 OK", DJANGO_HEADERS, 5, DATE)

    make()
    calls = calls_of(make)
    assert len(calls) <= 3, calls


def test_small_response_costs_at_most_twelve_calls() -> None:
    head = request()

    def respond() -> bytes:
        answer = ResponseEncoder(head, keep_alive=True, date=DATE)
        return answer.head("200 OK", DJANGO_HEADERS, 5) + answer.data(b"hello") + answer.end()

    respond()
    assert len(calls_of(respond)) <= 12
