"""Requests, valid and nearly so, for the property tests."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.protocol.vector_files import load_vectors

VECTOR_DATA = [vector.data for vector in load_vectors() if len(vector.data) < 2000]

_TCHARS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
tokens = st.text(_TCHARS, min_size=1, max_size=12)
# What may stand in a value, without the white space around it that is not part of it.
values = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")
    | st.just("\t"),
    max_size=20,
).map(lambda value: value.strip("\t "))
_names = tokens.filter(
    lambda name: (
        name.lower()
        not in {"host", "connection", "content-length", "transfer-encoding", "expect", "upgrade"}
    )
)
field_lists = st.lists(st.tuples(_names, values), max_size=6)
targets = st.text("abc/%20?=&;:@[]|~", max_size=12).map(lambda rest: "/" + rest)
bodies = st.binary(max_size=60)


@dataclass(frozen=True)
class SentRequest:
    """A valid request as a client meant it."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    chunks: list[bytes] | None
    """None: no body; one chunk sent with Content-Length; more in the chunked coding."""

    @property
    def body(self) -> bytes:
        """The chunks together."""
        return b"".join(self.chunks or [])

    @property
    def data(self) -> bytes:
        """The bytes, framed by hand: the reader must not be judged by its own encoder."""
        fields = [("Host", "example.org"), *self.fields]
        body = self.body
        if self.chunks is not None and len(self.chunks) == 1:
            fields.append(("Content-Length", str(len(body))))
        elif self.chunks is not None:
            fields.append(("Transfer-Encoding", "chunked"))
            pieces = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in self.chunks if chunk]
            body = b"".join(pieces) + b"0\r\n\r\n"
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{n}: {v}" for n, v in fields)]
        return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + body


sent_requests = st.builds(
    SentRequest,
    method=tokens.filter(lambda method: method != "CONNECT"),
    target=targets,
    fields=field_lists,
    chunks=st.none() | st.lists(bodies, max_size=4),
)
connections = st.lists(sent_requests, min_size=1, max_size=3)

# What smuggling is made of.
_SEASONING = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"\x00", b" ", b"\t", b":", b",", b";", b'"', b"0", b"chunked", b"\xff"]
)


@st.composite
def mutated_requests(draw: st.DrawFn) -> bytes:
    """Draw a request, from the vectors or made up, with up to four places damaged."""
    data = draw(st.sampled_from(VECTOR_DATA) | sent_requests.map(lambda sent: sent.data))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        stop = start + draw(st.integers(0, 3))
        data = data[:start] + draw(_SEASONING | st.binary(max_size=3)) + data[stop:]
    return data


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Draw `data` cut into pieces, none of them empty."""
    places = draw(st.lists(st.integers(0, len(data)), max_size=12, unique=True))
    edges = [0, *sorted(places), len(data)]
    pieces = [data[start:stop] for start, stop in itertools.pairwise(edges)]
    return [piece for piece in pieces if piece]
