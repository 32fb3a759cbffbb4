"""What this reader accepts, h11 and llhttp (through httptools) read the same.

One-sided on purpose: what only we refuse is the point of being strict. What they refuse
and we accept is listed below, each with its reason, and nothing else may be.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import h11
import httptools
import pytest
from hypothesis import currently_in_test_context, event, given

from tests.protocol.reading import Message, read
from tests.protocol.strategies import SentRequest, connections, mutated_requests
from tests.protocol.vector_files import Vector, load_vectors

# What the oracles refuse and we accept, by what they say about it.
H11_STRICTER: dict[str, str] = {}
LLHTTP_STRICTER = {
    "HttpParserInvalidMethodError": "it has a list of methods; RFC 9110 section 9.1 has none",
    "Expected space after method": "the same, for a method that begins like one of its list",
    "Expected SOURCE method": "the same",
    "Invalid HTTP version": "it knows 1.0 and 1.1; RFC 9110 section 2.5 reads 1.2 as 1.1",
    "Invalid character in chunk extensions": "no white space there; RFC 9112 section 7.1.1 "
    "tells a recipient to accept it",
    "Content-Length can't be present with": "it says so of a trailer too, which is dropped here",
    "Data after `Connection: close`": "closing is the worker's part here, not the reader's",
}


@dataclass
class Seen:
    """A request as an oracle reads it. `fields` without trailers."""

    method: str = ""
    target: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    whole: bool = False
    has_head: bool = False


def read_with_h11(data: bytes) -> tuple[list[Seen], str]:
    """Return the requests that h11 finds in `data`, and what it refuses, or nothing.

    It gets a new connection for every request, so that `Connection: close` does not end the
    comparison, and without the empty lines before it, which it would take for the end of the head.
    """
    requests: list[Seen] = []
    while data := _without_empty_lines(data):
        server = h11.Connection(our_role=h11.SERVER, max_incomplete_event_size=1 << 20)
        server.receive_data(data)
        try:
            while not isinstance(found := server.next_event(), h11.EndOfMessage):
                if isinstance(found, h11.Request):
                    fields = [(n.decode(), v.decode("latin-1")) for n, v in found.headers]
                    target = found.target.decode("latin-1")
                    requests.append(Seen(found.method.decode(), target, fields, has_head=True))
                elif isinstance(found, h11.Data):
                    requests[-1].body += bytes(found.data)
                else:
                    return requests, ""
        except h11.RemoteProtocolError as error:
            return requests, str(error)
        requests[-1].whole = True
        data = server.trailing_data[0]
    return requests, ""


def _without_empty_lines(data: bytes) -> bytes:
    """Return `data` without the two empty lines that may stand before a request."""
    return data.removeprefix(b"\r\n").removeprefix(b"\r\n")


class Llhttp:
    """Collects what `httptools.HttpRequestParser` calls back with."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:  # noqa: D102 -- named by httptools, as the rest
        self.requests.append(Seen())

    def on_url(self, url: bytes) -> None:  # noqa: D102
        self.requests[-1].target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102
        if not self.requests[-1].has_head:  # else it is a trailer
            field = (name.decode("latin-1").lower(), value.decode("latin-1"))
            self.requests[-1].fields.append(field)

    def on_headers_complete(self) -> None:  # noqa: D102
        self.requests[-1].has_head = True
        self.requests[-1].method = self.parser.get_method().decode()

    def on_body(self, body: bytes) -> None:  # noqa: D102
        self.requests[-1].body += body

    def on_message_complete(self) -> None:  # noqa: D102
        self.requests[-1].whole = True


def read_with_llhttp(data: bytes) -> tuple[list[Seen], str]:
    """Return the requests that llhttp finds in `data`, and what it refuses, or nothing."""
    oracle = Llhttp()
    try:
        oracle.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        return oracle.requests, "upgrade"
    except httptools.HttpParserError as error:
        return oracle.requests, repr(error)
    return oracle.requests, ""


def assert_agrees(ours: Message, theirs: Seen) -> None:
    """Fail unless both mean the same request."""
    assert ours.head["method"] == theirs.method
    assert ours.head["target"] == theirs.target
    assert ours.body == theirs.body
    assert ours.whole == theirs.whole
    joined: dict[str, str] = {}
    for name, value in theirs.fields:
        separator = "; " if name == "cookie" else ", "
        stripped = value.strip("\t ")
        joined[name] = f"{joined[name]}{separator}{stripped}" if name in joined else stripped
    headers = ours.head["headers"]
    assert isinstance(headers, dict)
    if theirs.target[0] not in "/*":  # absolute-form: our Host is the target's
        joined["host"] = headers["host"]
    # h11 gives the coding in lower case; it is case-insensitive (RFC 9112 section 7).
    for fields in (headers, joined):
        if "transfer-encoding" in fields:
            fields["transfer-encoding"] = fields["transfer-encoding"].lower()
    assert headers == joined


def assert_oracle_agrees(
    data: bytes, found: tuple[list[Seen], str], stricter: dict[str, str]
) -> None:
    """Fail unless an oracle reads every request that we accept as we do.

    Args:
        data: What was received.
        found: The oracle's requests and what it refused.
        stricter: What it may refuse although we accept it, with the reason.
    """
    theirs, refusal = found
    ours = read([data])
    tolerated = next((text for text in stricter if text in refusal), None)
    for number, message in enumerate(ours.messages):
        last = number == len(ours.messages) - 1
        missing = number >= len(theirs) or not theirs[number].has_head
        if tolerated and (missing or not theirs[number].whole):
            if currently_in_test_context():
                event(f"tolerated: {tolerated}")
            return
        if last and ours.error is not None and (refusal or not message.whole):
            return  # both refuse this request; how much of it came out first is not the point
        assert not missing, f"we accept what is refused with {refusal!r}"
        assert_agrees(message, theirs[number])


# The oracles have no such limits as some of the vectors.
@pytest.mark.parametrize("vector", [each for each in load_vectors() if not each.limits], ids=str)
def test_oracles_read_the_vectors_that_we_accept_alike(vector: Vector) -> None:
    assert_oracle_agrees(vector.data, read_with_h11(vector.data), H11_STRICTER)
    assert_oracle_agrees(vector.data, read_with_llhttp(vector.data), LLHTTP_STRICTER)


@given(connections)
def test_oracles_read_valid_requests_alike(sent: list[SentRequest]) -> None:
    data = b"".join(request.data for request in sent)
    assert_oracle_agrees(data, read_with_h11(data), H11_STRICTER)
    assert_oracle_agrees(data, read_with_llhttp(data), LLHTTP_STRICTER)


@given(mutated_requests())
def test_h11_reads_alike_what_we_accept_of_damaged_requests(data: bytes) -> None:
    assert_oracle_agrees(data, read_with_h11(data), H11_STRICTER)


@given(mutated_requests())
def test_llhttp_reads_alike_what_we_accept_of_damaged_requests(data: bytes) -> None:
    assert_oracle_agrees(data, read_with_llhttp(data), LLHTTP_STRICTER)
