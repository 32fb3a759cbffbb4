"""The reader between the events: what it says of itself, and its errors."""

from __future__ import annotations

import pytest

from django_wsgiserve.errors import ProtocolError, RequestLineTooLong
from django_wsgiserve.protocol.connection import RequestReader
from django_wsgiserve.protocol.messages import END, Limits, RequestHead
from tests.protocol.reading import CHUNKED, GET, HOST, chunk, read, reader_after, sized


def error_of(reader: RequestReader) -> ProtocolError:
    """Return the error that ends the events of `reader`."""
    try:
        while reader.next_event() is not None:
            pass
    except ProtocolError as error:
        return error
    pytest.fail("the reader waits for more")


def test_new_connection_has_not_started() -> None:
    reader = reader_after()
    assert not reader.started
    assert not reader.buffered
    assert reader.request_line == ""
    assert reader.next_event() is None


@pytest.mark.parametrize("data", [b"\r\n", b"\r", b"\r\n\r\n"])
def test_empty_lines_do_not_start_a_request(data: bytes) -> None:
    reader = reader_after(data)
    assert not reader.started
    assert reader.next_event() is None
    assert not reader.started


@pytest.mark.parametrize("data", [b"G", b"\r\nG", b"GET / HTTP/1.1\r\nHo"])
def test_first_byte_starts_a_request(data: bytes) -> None:
    reader = reader_after(data)
    assert reader.started
    assert reader.buffered
    assert reader.next_event() is None
    assert reader.started
    assert reader.buffered


def test_request_that_is_given_out_is_no_longer_the_next() -> None:
    reader = reader_after(GET)
    assert isinstance(reader.next_event(), RequestHead)
    assert not reader.started
    assert not reader.buffered


def test_body_does_not_start_the_next_request() -> None:
    reader = reader_after(sized(5) + b"hello")
    assert isinstance(reader.next_event(), RequestHead)
    assert reader.buffered
    assert not reader.started
    assert reader.next_event() == b"hello"
    assert not reader.buffered
    assert reader.next_event() is END


def test_pipelined_request_has_started() -> None:
    reader = reader_after(GET + b"GE")
    assert isinstance(reader.next_event(), RequestHead)
    assert reader.started
    assert reader.buffered


def test_body_that_came_whole_is_not_copied() -> None:
    reader = reader_after(sized(5))
    assert isinstance(reader.next_event(), RequestHead)
    body = b"hello"
    reader.receive(body)
    assert reader.next_event() is body


@pytest.mark.parametrize(
    ("first", "body"),
    [
        (sized(2) + b"\r\n", b"\r\n"),
        (GET + b"\r\n", b""),
        (CHUNKED + b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
    ],
)
def test_line_end_right_behind_a_head_is_not_a_part_of_it(first: bytes, body: bytes) -> None:
    reading = read([first, GET])
    assert reading.error is None
    assert [message.body for message in reading.messages] == [body, b""]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"CONNECT /path HTTP/1.1", ProtocolError),
        (b"OPTIONS * HTTP/1.1", None),
        (b"GET http://other.example/ HTTP/1.1", None),
        (b"GET /" + b"x" * 100 + b" HTTP/1.1", RequestLineTooLong),
    ],
)
def test_fields_of_the_last_request_behind_an_unusual_line_are_read_as_if_they_were_new(
    line: bytes, error: type[ProtocolError] | None
) -> None:
    limits = Limits(request_line=100)
    data = line + b"\r\n" + HOST + b"\r\n"
    alone = read([data], limits)
    after = read([GET, data], limits)
    assert after.messages[1:] == alone.messages
    assert (None if after.error is None else type(after.error)) is error
    assert after.comparable[1] is alone.comparable[1]


def test_body_received_past_the_reader_ends_where_it_was_announced_to_end() -> None:
    reader = reader_after(sized(10) + b"hel")
    assert reader.body_left == 0, "before the head was given out"
    assert isinstance(reader.next_event(), RequestHead)
    assert reader.body_left == 0, "while some of it is held"
    assert reader.next_event() == b"hel"
    assert reader.body_left == 7
    reader.passed(5)
    assert reader.next_event() is None
    assert reader.body_left == 2
    reader.passed(2)
    reader.receive(GET)
    assert reader.next_event() is END
    assert isinstance(reader.next_event(), RequestHead)


def test_body_received_past_the_reader_is_cut_off_by_the_end_of_file() -> None:
    reader = reader_after(sized(10) + b"hello")
    reader.next_event()
    reader.next_event()
    reader.passed(4)
    reader.receive(b"")
    with pytest.raises(ProtocolError, match="middle of a request body"):
        reader.next_event()


def test_chunked_body_has_to_be_received() -> None:
    reader = reader_after(CHUNKED)
    reader.next_event()
    assert reader.body_left == 0


def test_request_without_a_body_has_no_end() -> None:
    reader = reader_after(sized(0))
    assert isinstance(reader.next_event(), RequestHead)
    assert reader.next_event() is None


def test_is_kept_until_the_next_event_is_about_another_request() -> None:
    reader = reader_after(b"GET /1 HTTP/1.2\r\n" + HOST + b"\r\nGET /2")
    assert isinstance(reader.next_event(), RequestHead)
    assert reader.request_line == "GET /1 HTTP/1.2"
    assert reader.next_event() is None
    assert reader.request_line == "GET /2"


def test_is_kept_while_the_body_is_read() -> None:
    reader = reader_after(sized(2) + b"hi")
    events = [reader.next_event() for _ in range(3)]
    assert events[1:] == [b"hi", END]
    assert reader.request_line == "POST / HTTP/1.1"


@pytest.mark.parametrize("cut", [1 << 20, 1])
def test_is_there_after_an_error(cut: int) -> None:
    reader = reader_after(*chunk(b"\r\nGET /\xe9 HTTP/1.1\r\nX: y\r\n\r\n", cut))
    with pytest.raises(ProtocolError):
        reader.next_event()
    assert reader.request_line == "GET /\xe9 HTTP/1.1"


def test_is_cut_at_its_limit() -> None:
    reader = RequestReader(Limits(request_line=10))
    reader.receive(b"GET /67890123456789")
    with pytest.raises(RequestLineTooLong):
        reader.next_event()
    assert reader.request_line == "GET /67890"


@pytest.mark.parametrize("data", [b"\x00", CHUNKED + b"z\r\n"])
def test_error_stays(data: bytes) -> None:
    reader = reader_after(data)
    error = error_of(reader)
    reader.receive(GET)
    reader.receive(b"")
    with pytest.raises(ProtocolError) as second:
        reader.next_event()
    assert second.value is error


def test_what_comes_after_the_end_of_file_is_ignored() -> None:
    reader = reader_after(b"", GET)
    assert reader.next_event() is None


def test_whole_requests_are_given_out_before_the_end_of_file_is_an_error() -> None:
    reading = read([GET + GET + b"GE"], eof=True)
    assert len(reading.messages) == 2
    assert reading.error is not None


def test_data_before_a_broken_chunk_is_given_out_before_the_error() -> None:
    reader = reader_after(CHUNKED + b"2\r\nhi\r\n1\r\n!\r\nz\r\n")
    assert isinstance(reader.next_event(), RequestHead)
    assert reader.next_event() == b"hi!"
    with pytest.raises(ProtocolError, match="hexadecimal"):
        reader.next_event()


def test_message_shows_the_beginning_of_what_was_wrong() -> None:
    reader = reader_after(b"GET / HTTP/1.1\r\nX y: " + b"z" * 1000 + b"\r\n\r\n")
    with pytest.raises(ProtocolError, match="X y: zz") as caught:
        reader.next_event()
    assert len(str(caught.value)) < 200
