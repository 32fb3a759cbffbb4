"""What is written reads back, by a parser that is not ours; nothing else is written."""

from __future__ import annotations

import contextlib

import h11
from hypothesis import given
from hypothesis import strategies as st

from django_wsgiserve.errors import ResponseError
from django_wsgiserve.protocol.grammar import parse_head
from django_wsgiserve.protocol.messages import Limits
from django_wsgiserve.protocol.response import ResponseEncoder, whole_head
from tests.protocol.strategies import bodies, field_lists, tokens

DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: test\r\n"
_OWN_OR_FORBIDDEN = {
    "connection", "content-length", "date", "keep-alive", "proxy-authenticate",
    "proxy-authorization", "proxy-connection", "server", "te", "trailer",
    "trailers", "transfer-encoding", "upgrade",
}  # fmt: skip
_headers = field_lists.map(
    lambda fields: [field for field in fields if field[0].lower() not in _OWN_OR_FORBIDDEN]
)
_statuses = st.sampled_from(["200 OK", "204 No Content", "304 Not Modified", "404 ", "599 x y"])


def read_back(wire: bytes, method: str) -> tuple[h11.Response, bytes, bool]:
    """Return what a client reads: the head, the body, and whether it may ask again."""
    client = h11.Connection(our_role=h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "example.org")]))
    client.send(h11.EndOfMessage())
    client.receive_data(wire)
    head = client.next_event()
    assert isinstance(head, h11.Response)
    if client.their_state is h11.MUST_CLOSE or b"close" in dict(head.headers).get(
        b"connection", b""
    ):
        client.receive_data(b"")
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert not client.trailing_data[0]
    return head, body, client.their_state is h11.DONE


@given(
    st.sampled_from(
        [f"{m} / HTTP/1.{v}\r\nHost: a" for m in ("GET", "HEAD", "POST") for v in "01"]
    ),
    _statuses,
    _headers,
    st.lists(bodies, max_size=4),
    st.sampled_from(["given", "known", "unknown"]),
)
def test_what_is_written_reads_back(
    request_head: str,
    status: str,
    headers: list[tuple[str, str]],
    pieces: list[bytes],
    length: str,
) -> None:
    request = parse_head(request_head.encode(), Limits())
    method = request.method
    body = b"".join(pieces)
    sent = [*headers, ("Content-Length", str(len(body)))] if length == "given" else headers
    encoder = ResponseEncoder(request, keep_alive=True, date=DATE)
    wire = encoder.head(status, sent, len(body) if length == "known" else None)
    wire += b"".join(encoder.data(piece) for piece in pieces) + encoder.end()

    head, read_body, persists = read_back(wire, method)
    assert head.status_code == int(status[:3])
    assert head.reason.decode() == status[4:]
    assert read_body == (body if encoder.has_body else b"")
    assert encoder.has_body == (method != "HEAD" and status[:3] not in {"204", "304"})
    assert persists == encoder.keep_alive
    fields = [(name.decode(), value.decode("latin-1")) for name, value in head.headers.raw_items()]
    assert fields[: len(headers)] == headers


@given(
    st.text() | st.sampled_from(["200 OK", "204 No Content"]),
    st.lists(
        st.tuples(tokens | st.text() | st.just("Content-Length"), st.text() | st.just("5"))
    ),
    st.lists(st.binary()),
)  # fmt: skip
def test_nothing_but_response_error_escapes_and_no_line_is_smuggled(
    status: str, headers: list[tuple[str, str]], pieces: list[bytes]
) -> None:
    request = parse_head(b"GET / HTTP/1.1\r\nHost: a", Limits())
    encoder = ResponseEncoder(request, keep_alive=True, date=DATE)
    with contextlib.suppress(ResponseError):
        head = encoder.head(status, headers, None)
        lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        # The status, at most each header, Date, Server, one line of framing, Connection.
        assert len(lines) <= 1 + len(headers) + 4
        for line in lines:
            assert not set(line) & set(b"\r\n\0")
        for piece in pieces:
            encoder.data(piece)
        encoder.end()


@given(
    _statuses | st.text(),
    st.lists(
        st.tuples(
            tokens | st.sampled_from(["Content-Length", "content-length", "Date"]) | st.text(),
            st.text() | st.sampled_from(["0", "5", "05", "close"]),
        )
    ),
    st.sampled_from([0, 5]),
)
def test_quick_head_is_the_head_of_the_encoder_or_none(
    status: str, headers: list[tuple[str, str]], body_bytes: int
) -> None:
    quick = whole_head(status, headers, body_bytes, DATE)
    if quick is not None:
        request = parse_head(b"GET / HTTP/1.1\r\nHost: a", Limits())
        encoder = ResponseEncoder(request, keep_alive=True, date=DATE)
        body = b"x" * body_bytes
        assert encoder.whole(status, headers, body, body_bytes) == (quick, body)
        assert encoder.keep_alive
        assert encoder.has_body
