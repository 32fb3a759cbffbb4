"""What holds for all requests, and for all bytes that are none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from django_wsgiserve.protocol.chunked import parse_chunk_size
from django_wsgiserve.protocol.messages import Limits
from tests.protocol.reading import chunk, read, read_in_two_steps
from tests.protocol.strategies import SentRequest, connections, cuts, mutated_requests

SMALL = Limits(request_line=60, fields=5, field_size=40, body=50)


def joined(sent: list[SentRequest]) -> bytes:
    return b"".join(request.data for request in sent)


@given(connections)
def test_requests_are_read_as_they_were_meant(sent: list[SentRequest]) -> None:
    reading = read([b"".join(request.data for request in sent)], eof=True)
    assert reading.error is None
    assert [message.body for message in reading.messages] == [request.body for request in sent]
    for message, request in zip(reading.messages, sent, strict=True):
        assert message.whole
        assert message.head["method"] == request.method
        assert message.head["target"] == request.target
        headers = message.head["headers"]
        assert isinstance(headers, dict)
        for name, _ in request.fields:
            values = [value for other, value in request.fields if other.lower() == name.lower()]
            separator = "; " if name.lower() == "cookie" else ", "
            assert headers[name.lower()] == separator.join(values)


@given(st.data(), connections)
def test_cuts_do_not_change_valid_requests(data: st.DataObject, sent: list[SentRequest]) -> None:
    whole = b"".join(request.data for request in sent)
    assert read(data.draw(cuts(whole))).comparable == read([whole]).comparable


@given(st.data(), mutated_requests() | st.binary(min_size=1, max_size=80))
def test_cuts_do_not_change_what_is_refused_nor_why(data: st.DataObject, whole: bytes) -> None:
    for limits in (Limits(), SMALL):
        expected = read([whole], limits, eof=True).comparable
        assert read(data.draw(cuts(whole)), limits, eof=True).comparable == expected
        assert read(chunk(whole, 1), limits, eof=True).comparable == expected


@given(st.data(), mutated_requests() | connections.map(joined) | st.binary(max_size=80))
def test_two_steps_read_what_one_does(data: st.DataObject, whole: bytes) -> None:
    pieces = data.draw(cuts(whole)) if whole else []
    for limits in (Limits(), SMALL):
        one_step = read(pieces, limits, eof=True)
        two_steps = read_in_two_steps(pieces, limits, eof=True)
        assert one_step.messages == two_steps.messages
        assert str(one_step.error) == str(two_steps.error)


STARTS = [
    b"GET / HTTP/1.1", b"GET /a?b=c HTTP/1.1", b"POST /?a?b HTTP/1.1", b"HEAD /? HTTP/1.1",
    b"GET / HTTP/1.0", b"GET / HTTP/1.2", b"GET / HTTP/2.0", b"GET /", b"GET  / HTTP/1.1",
    b"GET /a b HTTP/1.1", b"GET /#a HTTP/1.1", b"GET /\xe9 HTTP/1.1", b" / HTTP/1.1",
    b"GET http://other.example/ HTTP/1.1", b"OPTIONS * HTTP/1.1", b"CONNECT / HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1", b"GET * HTTP/1.1", b"GET /" + b"a" * 46 + b" HTTP/1.1",
    b"GET /" + b"a" * 47 + b" HTTP/1.1",
    b"GET / HTTP/1.1\r\nX: /  HTTP/1.1",
]  # fmt: skip
FIELDS = [
    b"", b"Host: a", b"Host: b", b"Host: a\r\nConnection: close",
    b"Host: a\r\nExpect: 100-continue", b"Host: a\r\nContent-Length: 0",
    b"Host: a\r\nContent-Length: 3", b"Host: a\r\nX: 1 \r\nX: 2",
    b"Host: a\r\nTransfer-Encoding: chunked",
]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(STARTS), st.sampled_from(FIELDS)), max_size=6))
def test_request_is_read_alike_whatever_came_before_it(parts: list[tuple[bytes, bytes]]) -> None:
    pieces = [b"\r\n".join([start, *filter(None, [fields]), b"", b""]) for start, fields in parts]
    one_step, two_steps = read(pieces, SMALL), read_in_two_steps(pieces, SMALL)
    assert one_step.messages == two_steps.messages
    assert str(one_step.error) == str(two_steps.error)


@given(st.lists(st.binary(min_size=1), max_size=8))
def test_nothing_but_protocol_error_escapes_on_arbitrary_bytes(pieces: list[bytes]) -> None:
    reading = read(pieces, SMALL, eof=True)  # `read` lets everything else through
    for message in reading.messages:
        assert message.whole or reading.error is not None


@given(mutated_requests())
def test_body_never_exceeds_its_limit(whole: bytes) -> None:
    for message in read([whole], SMALL).messages:
        assert len(message.body) <= SMALL.body
        length = message.head["content_length"]
        if message.whole and not message.head["chunked"]:
            assert len(message.body) == length


@given(st.integers(0, (1 << 64) - 1))
def test_chunk_size_reads_back(size: int) -> None:
    assert parse_chunk_size(b"%x" % size) == size
    assert parse_chunk_size(b"%016X" % size) == size
