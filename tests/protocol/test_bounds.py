"""What a hostile client can make the reader hold and do, and what a friendly one costs."""

from __future__ import annotations

import pytest

from django_wsgiserve.errors import HeadTooLarge, ProtocolError
from django_wsgiserve.protocol import chunked, framing, grammar
from django_wsgiserve.protocol.chunked import CHUNK_LINE_BYTES_MAX, EXTENSION_BYTES_FREE
from django_wsgiserve.protocol.connection import RequestReader
from django_wsgiserve.protocol.grammar import parse_head
from django_wsgiserve.protocol.messages import END, Limits, RequestHead
from tests.protocol.reading import CHUNKED, HOST, calls_of, chunk, read, reader_after, sized

GET = b"GET / HTTP/1.1\r\n"
MEGABYTE = 1 << 20


def test_head_a_byte_at_a_time_is_read_once() -> None:
    # Quadratic reading would take minutes for this head, and the test's time limit.
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 8000) for number in range(30))
    head = b"GET / HTTP/1.1\r\n" + HOST + fields + b"\r\n"
    reading = read(chunk(head, 1))
    assert reading.error is None
    assert len(reading.messages) == 1


def test_hundred_megabytes_come_as_they_were_received() -> None:
    reader = reader_after(sized(100 << 20))
    assert isinstance(reader.next_event(), RequestHead)
    piece = b"x" * 65536
    for _ in range(1600):
        reader.receive(piece)
        assert reader.next_event() is piece
    assert reader.next_event() is END


@pytest.mark.parametrize("receive_bytes", [65536, 1 << 30])
def test_million_chunks_of_one_byte_are_linear(receive_bytes: int) -> None:
    count = 1_000_000
    body = b"1\r\nx\r\n" * count + b"0\r\n\r\n"
    (message,) = read([CHUNKED, *chunk(body, receive_bytes)]).messages
    assert message.whole
    assert message.body == b"x" * count


def test_trailers_a_byte_at_a_time_are_read_once() -> None:
    trailers = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 8000) for number in range(30))
    (message,) = read(chunk(CHUNKED + b"0\r\n" + trailers + b"\r\n", 1)).messages
    assert message.whole


def test_body_that_nobody_takes_is_joined_at_linear_cost() -> None:
    reader = reader_after(sized(32 << 20), *[b"x" * 4096] * (8 << 10))
    assert isinstance(reader.next_event(), RequestHead)
    assert reader.next_event() == b"x" * (32 << 20)
    assert reader.next_event() is END


def test_extensions_may_not_outweigh_the_data() -> None:
    line = b"1;" + b"e" * (CHUNK_LINE_BYTES_MAX - 2) + b"\r\nx\r\n"
    allowed = EXTENSION_BYTES_FREE // (CHUNK_LINE_BYTES_MAX - 1)
    assert read([CHUNKED, line * allowed]).error is None
    reading = read([CHUNKED, line * (allowed + 2)])
    assert type(reading.error) is ProtocolError


def test_largest_head_is_refused_before_it_is_held() -> None:
    reader = RequestReader(Limits(fields=3, field_size=100))
    for line in (b"GET / HTTP/1.1\r\n", b"A: 1\r\n", b"B: 2\r\n", b"C: 3\r\n"):
        reader.receive(line)
        assert reader.next_event() is None
    reader.receive(b"D: 4\r\n")
    with pytest.raises(HeadTooLarge):
        reader.next_event()


def test_invented_names_and_hosts_are_not_remembered_without_bound() -> None:
    for number in range(3000):
        data = b"GET / HTTP/1.1\r\nHost: h%d\r\nX-%d: y\r\n\r\n" % (number, number)
        (message,) = read([data]).messages
        assert message.head["headers"] == {"host": f"h{number}", f"x-{number}": "y"}
    assert len(grammar._lower_names) <= 1024
    assert len(framing.valid_hosts) <= 1024


def test_long_names_and_hosts_are_read_and_not_remembered() -> None:
    name, host = "x" * 500, "h" * 500
    data = f"GET / HTTP/1.1\r\nHost: {host}\r\n{name.upper()}: y\r\n\r\n".encode()
    (message,) = read([data]).messages
    assert message.head["headers"] == {"host": host, name: "y"}
    assert name.upper() not in grammar._lower_names
    assert host not in framing.valid_hosts


@pytest.mark.parametrize(
    "head",
    [
        b"X" * MEGABYTE,
        b"X" * MEGABYTE + b" / HTTP/1.1",
        b"GET /" + b"a" * MEGABYTE,
        b"GET http://" + b"a" * MEGABYTE + b"/" * MEGABYTE + b"? HTTP/1.1",
        b"GET http://a" + b"?" * MEGABYTE + b"` HTTP/1.2 HTTP/1.1",
        b"CONNECT " + b"a:" * MEGABYTE + b" HTTP/1.1",
        b"CONNECT " + b"[" * MEGABYTE + b":1 HTTP/1.1",
        GET + b"X" * MEGABYTE,
        GET + b"X: " + b" \t" * MEGABYTE + b"\x01",
        GET + b"X:" + b" " * MEGABYTE + b"\r\nY",
        GET + b"A:\r\n" * (MEGABYTE // 4) + b" ",
        GET + b"Host: " + b"%aa" * (MEGABYTE // 3) + b"%",
        GET + b"Host: " + b"a" * MEGABYTE + b":" + b"1" * MEGABYTE,
        GET + b"Host: a\r\nTransfer-Encoding: " + b"a," * (MEGABYTE // 2),
        GET + b"Host: a\r\nTransfer-Encoding: a" + b"\t " * MEGABYTE + b"a",
        GET + b"Host: a\r\nContent-Length: " + b"1" * MEGABYTE,
    ],
    ids=lambda head: repr(head[:28]),
)
def test_no_head_is_refused_in_more_than_linear_time(head: bytes) -> None:
    # No limit of ours helps here: a quadratic look at a megabyte takes longer than a test may.
    limits = Limits(request_line=1 << 30, fields=1 << 30, field_size=1 << 30)
    with pytest.raises(ProtocolError):
        parse_head(head, limits)


@pytest.mark.parametrize(
    "extensions",
    [
        b";a" + b" \t" * MEGABYTE,
        b";" + b"a" * MEGABYTE + b"=",
        b";a" * (MEGABYTE // 2) + b" ",
        b" ; a = b" * (MEGABYTE // 8) + b";",
        b';a="' + b"\\a" * (MEGABYTE // 2),
        b';a="' + b"b" * MEGABYTE,
        b';a="b"' * (MEGABYTE // 8) + b'"',
    ],
    ids=lambda extensions: repr(extensions[:12]),
)
def test_no_extensions_are_refused_in_more_than_linear_time(extensions: bytes) -> None:
    assert chunked._EXTENSIONS.fullmatch(extensions) is None
    assert read([CHUNKED, b"1" + extensions[-200:] + b"\r\nx\r\n"]).error is not None


def test_small_get_costs_few_calls_and_fewer_with_the_fields_of_the_last() -> None:
    head = b"GET /%s HTTP/1.1\r\n" + HOST + b"User-Agent: test\r\nAccept: */*\r\n\r\n"
    first, second = head % b"a", head % b"b?c=d"
    assert reader_after().take(first) is not None  # names and host are known from here
    reader = reader_after()
    calls = calls_of(lambda: reader.take(first))
    assert len(calls) <= 9, calls
    calls = calls_of(lambda: reader.take(second))
    assert len(calls) <= 5, calls
