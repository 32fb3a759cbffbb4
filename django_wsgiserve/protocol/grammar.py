"""The grammar of a request head: RFC 9112 sections 2 to 5, read strictly.

A valid head is recognised by one regular expression and split by a second. A head that
this refuses, or that is long enough to break a limit, is looked at again line by line,
which finds the first wrong line and says what is wrong with it: the same functions, in
the same order, that `connection` applies to the lines of a head that has not come whole.
So an error does not depend on how the bytes were cut.

All patterns of `protocol` are deterministic: whatever has been read, no character can
belong to two parts of the pattern. So there is one way to read a text and no second to
try. What backtracking is left gives characters back one at a time, and each finds at
once that nothing else can begin there: time stays linear in the length of the text.
`tests/protocol/test_patterns.py` proves it from the patterns; nothing in them is
possessive or atomic, because `re` gets those wrong up to CPython 3.11.4.

Deliberately not here: where bytes come from, and the body.
"""

from __future__ import annotations

import re

from django_wsgiserve.errors import (
    HeadTooLarge,
    ProtocolError,
    RequestLineTooLong,
    UnsupportedMethod,
    UnsupportedVersion,
)
from django_wsgiserve.protocol.framing import (
    body_framing,
    check_expectation,
    check_host,
    persists,
    valid_hosts,
)
from django_wsgiserve.protocol.messages import Limits, RequestHead

_TOKEN_CHARS = r"!#$%&'*+\-.^_`|~0-9A-Za-z"  # noqa: S105 -- RFC 9110 section 5.6.2, not a secret
_TOKEN = re.compile(rf"[{_TOKEN_CHARS}]+")

# The longest registered method has 17 letters. RFC 9112 section 3 asks for a 501 beyond.
METHOD_BYTES_MAX = 32

# Wider than RFC 3986, which has no `"<>[]\^`{|}` in a path or query: browsers send most of
# them unescaped (`?id[]=1`), and refusing them would refuse Django's users. None of them can
# end a target or a line. `#` cannot occur (RFC 9112 section 3.2); raw non-ASCII bytes have no
# agreed meaning, so proxy and application might read different paths.
_TARGET_CHARS = r"!\"$-~"
_PATH_CHARS = r"!\"$->@-~"  # without the question mark
_TARGET = re.compile(rf"[{_TARGET_CHARS}]+")

_FIELD_LINE = re.compile(rf"[{_TOKEN_CHARS}]+:[\t -~\x80-\xff]*")

# Values must not end in white space here; those that do take the slow way, which trims.
_HEAD = re.compile(
    rf"([{_TOKEN_CHARS}]{{1,{METHOD_BYTES_MAX}}}) ([{_TARGET_CHARS}]+) HTTP/1\.([0-9])"
    rf"(?:\r\n[{_TOKEN_CHARS}]+:[\t -~\x80-\xff]*(?<![\t ]))*"
)
_match_head = _HEAD.fullmatch
# The same of a request line without its version; target in origin-form, split at its query.
_match_start = re.compile(
    rf"([{_TOKEN_CHARS}]{{1,{METHOD_BYTES_MAX}}}) ((/[{_PATH_CHARS}]*)(?:\?([{_TARGET_CHARS}]*))?)"
).fullmatch
# Only for what `_HEAD` has matched: there every CRLF begins a field, so the name meets its
# colon. White space before a value may be of both last parts, and is always of the first:
# it is greedy, and the second takes anything, so that nothing is ever given back.
_split_fields = re.compile(r"\r\n([^:]+):[\t ]*([^\r]*)").findall

_VERSION_BYTES = len(" HTTP/1.1")
_VERSION = re.compile(r"HTTP/([0-9])\.[0-9]")
_ABSOLUTE_FORM = re.compile(r"https?://([^/?]*)((?:/[^?]*)?)(?:\?(.*))?", re.IGNORECASE)
_AUTHORITY_FORM = re.compile(r"(?:\[[^\]/?@]+\]|[^\[:/?@]+):[0-9]+")

# Every control byte but HTAB. CR and LF among them: inside a line both are bare.
_find_control = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search

_COMMON_NAMES = [
    "Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control",
    "Connection", "Content-Length", "Content-Type", "Cookie", "Expect", "Forwarded", "Host",
    "If-Modified-Since", "If-None-Match", "Origin", "Pragma", "Priority", "Range", "Referer",
    "Sec-CH-UA", "Sec-CH-UA-Mobile", "Sec-CH-UA-Platform", "Sec-Fetch-Dest", "Sec-Fetch-Mode",
    "Sec-Fetch-Site", "Sec-Fetch-User", "TE", "Transfer-Encoding", "Upgrade",
    "Upgrade-Insecure-Requests", "User-Agent", "Via", "X-CSRFToken", "X-Forwarded-For",
    "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "X-Request-ID", "X-Requested-With",
]  # fmt: skip
# Bounded, so that a client that invents names cannot fill the memory. When full it is
# cleared: what is in use is back with the next request, what was invented is not.
_NAMES_MAX = 1024
_NAME_BYTES_MAX = 64
_lower_names: dict[str, str] = {}
for _name in _COMMON_NAMES:
    _lower_names[_name] = _lower_names[_name.lower()] = _name.lower()


def parse_head(head: bytes, limits: Limits) -> RequestHead:
    """Return the request that `head` describes.

    Measured on CPython 3.11: 2.4 µs for a line and 3 fields, 6.6 µs for a browser's 13.

    Args:
        head: The request line and the fields, without the final CRLF CRLF.
        limits: How large the parts may be.

    Raises:
        ProtocolError: The head breaks the grammar, a limit or the rules of framing; the
            subclass has the status. Nothing else is raised, whatever the bytes.

    Source: RFC 9112 sections 2.2, 3, 5, 6 and 9.3; RFC 9110 sections 7.2 and 10.1.1.
    """
    text = head.decode("latin-1")
    match = _match_head(text)
    # A slice is no call: is it longer than one of the limits?
    if match is None or text[limits.request_line :] or text[limits.field_size :]:
        match = _match_lines(head, limits)
        text = match.string
    method, target, minor = match[1], match[2], match[3]
    fields = _split_fields(text)
    count = len(fields)
    if count > limits.fields:
        _check_lines(head, limits)
    headers: dict[str, str] = {}
    try:
        for name, value in fields:
            headers[_lower_names[name]] = value
    except KeyError:  # a name not seen before
        headers = _collect(fields)
    if len(headers) != count:  # a repeated field
        headers = _collect(fields)

    request = RequestHead()
    request.method = method
    request.target = target
    request.version = version = "HTTP/1.0" if minor == "0" else "HTTP/1.1"
    request.headers = headers
    host = None
    if target[0] == "/" and method != "CONNECT" and "?" not in target:
        request.path = target
        request.query = ""
    else:
        request.path, request.query, host = _read_target(method, target)
    if (
        host is None
        and version == "HTTP/1.1"
        and "host" in headers
        and headers["host"] in valid_hosts
        and "content-length" not in headers
        and "transfer-encoding" not in headers
        and ("connection" not in headers or headers["connection"] == "keep-alive")
        and "expect" not in headers
    ):
        # What `_settle` does for nearly every GET, without its call.
        request.authority = headers["host"]
        request.content_length = 0
        request.chunked = request.expect_continue = False
        request.keep_alive = True
    else:
        _settle(request, version, host, limits)
    return request


def read_start(start: bytes, last: RequestHead, limits: Limits) -> RequestHead | None:
    """Return a request that differs from the last one only in method and target.

    Args:
        start: What comes before the version: `GET /books/?page=2`.
        last: A request over HTTP/1.1, without a body, its target in origin-form.
        limits: Of these, the request line's.

    Returns:
        What `parse_head` would; `None` when the target is in another form, or wrong.
    """
    match = _match_start(start.decode("latin-1"))
    if match is None or start[limits.request_line - _VERSION_BYTES :]:
        return None
    request = RequestHead()
    request.method = match[1]
    if request.method == "CONNECT":
        return None
    request.target = match[2]
    request.path = match[3]
    request.query = match[4] or ""
    request.version = last.version
    request.headers = last.headers
    request.authority = last.authority
    request.content_length = 0
    request.chunked = request.expect_continue = False
    request.keep_alive = last.keep_alive
    return request


def _settle(request: RequestHead, version: str, host: str | None, limits: Limits) -> None:
    """Fill in what the fields decide: authority, framing, persistence, expectation.

    Args:
        request: Method, target, version and headers are set.
        version: `request.version`, again to spare the lookups.
        host: The authority of an absolute-form target; `None` for the other forms.
        limits: Of these, the body's.
    """
    headers = request.headers
    request.authority = ""
    if "host" in headers:
        request.authority = headers["host"]
        if request.authority not in valid_hosts:
            check_host(request.authority)
    elif version == "HTTP/1.1":
        raise ProtocolError("an HTTP/1.1 request without a Host field")
    if host is not None:
        # RFC 9112 section 3.2.2: the received Host is ignored and the target's used. It is
        # replaced, so that whoever reads the field cannot get the wrong one.
        request.authority = headers["host"] = host
    if "content-length" in headers or "transfer-encoding" in headers:
        request.content_length, request.chunked = body_framing(headers, version, limits.body)
    else:
        request.content_length = 0
        request.chunked = False
    if "connection" in headers and headers["connection"] != "keep-alive":
        request.keep_alive = persists(headers["connection"], version)
    else:
        request.keep_alive = version == "HTTP/1.1" or "connection" in headers
    request.expect_continue = False
    if "expect" in headers and version == "HTTP/1.1":
        check_expectation(headers["expect"])
        # Without a body there is nothing to continue with (RFC 9110 section 10.1.1).
        request.expect_continue = request.chunked or request.content_length > 0


def _collect(fields: list[tuple[str, str]]) -> dict[str, str]:
    """Return the fields by lower-case name, repeated ones joined; learns new names."""
    headers: dict[str, str] = {}
    for name, value in fields:
        lower = _lower_names.get(name)
        if lower is None:
            lower = name.lower()
            if len(_lower_names) >= _NAMES_MAX:
                _lower_names.clear()
            if len(name) <= _NAME_BYTES_MAX:
                _lower_names[name] = lower
        if lower in headers:
            separator = "; " if lower == "cookie" else ", "  # RFC 6265 section 5.4
            headers[lower] = f"{headers[lower]}{separator}{value}"
        else:
            headers[lower] = value
    return headers


def _match_lines(head: bytes, limits: Limits) -> re.Match[str]:
    """Return what `_match_head` does of a head that has to be looked at line by line first.

    Raises:
        ProtocolError: As `_check_lines`.
    """
    match = _match_head(_check_lines(head, limits))
    if match is None:  # pragma: no cover -- _check_lines refuses whatever _HEAD refuses
        raise ProtocolError("the head is malformed")
    return match


def _check_lines(head: bytes, limits: Limits) -> str:
    """Return the head with the white space after its values removed.

    Raises:
        ProtocolError: For the first line that breaks the grammar or a limit.
    """
    first, *lines = head.split(b"\r\n")
    find_line_end(first, 0, 0, limits.request_line, RequestLineTooLong)
    check_request_line(first)
    texts = [first.decode("latin-1")]
    for count, line in enumerate(lines, 1):
        find_line_end(line, 0, 0, limits.field_size, HeadTooLarge)
        check_field(line, count, limits.fields)
        texts.append(line.decode("latin-1").rstrip("\t "))
    return "\r\n".join(texts)


def find_line_end(
    data: bytes | bytearray,
    start: int,
    searched: int,
    limit_bytes: int,
    too_long: type[ProtocolError],
) -> int:
    """Return where the line that begins at `start` ends, -1 while its CRLF is missing.

    Args:
        data: What has come.
        start: Where the line begins.
        searched: Up to where an earlier call has looked; so that a line that comes a
            byte at a time is read once.
        limit_bytes: The longest line taken, without its CRLF.
        too_long: Raised beyond.

    Raises:
        ProtocolError: A control byte, a bare CR or LF within the limit.
    """
    begin = max(start, searched - 1)  # the last byte may have been the CR of a CRLF
    end = data.find(b"\r\n", begin)
    stop = end
    if end < 0:
        stop = len(data)
        if stop > start and data[-1] == 0x0D:  # perhaps half a CRLF
            stop -= 1
    control = _find_control(data, begin, min(stop, start + limit_bytes))
    if control is not None:
        raise ProtocolError(f"the byte {control[0]!r} in {_shown(data[start:stop])}")
    if stop - start > limit_bytes:
        raise too_long(f"a line of more than {limit_bytes} bytes: {_shown(data[start:stop])}")
    return end


def check_request_line(line: bytes) -> None:
    """Raise the `ProtocolError` that `line` deserves; it has no CR, LF or other control.

    The version is judged before the target: `PRI * HTTP/2.0`, with which an HTTP/2 client
    begins, is answered 505, which tells it what is wrong.

    Source: RFC 9112 section 3, RFC 9113 section 3.4.
    """
    parts = line.decode("latin-1").split(" ")
    if len(parts) != 3:  # two would be HTTP/0.9
        raise ProtocolError(f"the request line {_shown(line)} is not method, target, version")
    method, target, version = parts
    if _TOKEN.fullmatch(method) is None:
        raise ProtocolError(f"the method in {_shown(line)} is not a token")
    if len(method) > METHOD_BYTES_MAX:
        raise UnsupportedMethod(f"the method in {_shown(line)} is too long")
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ProtocolError(f"the version in {_shown(line)} is malformed")
    if match[1] != "1":
        raise UnsupportedVersion(f"{version} is not supported")
    if _TARGET.fullmatch(target) is None:
        raise ProtocolError(f"the target in {_shown(line)} has a byte that must be escaped")
    _read_target(method, target)


def _read_target(method: str, target: str) -> tuple[str, str, str | None]:
    """Return path, query and, of an absolute-form target, the authority.

    Source: RFC 9112 section 3.2.
    """
    if method == "CONNECT":
        if _AUTHORITY_FORM.fullmatch(target) is None:
            raise ProtocolError(f"CONNECT to {target[:80]!r}, which is not host:port")
        raise UnsupportedMethod("CONNECT is not supported: this is not a proxy")
    if target[0] == "/":
        path, _, query = target.partition("?")
        return path, query, None
    if target == "*":
        if method != "OPTIONS":
            raise ProtocolError(f"the target * with the method {method!r}")
        return "*", "", None
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        raise ProtocolError(f"the target {target[:80]!r} is neither a path nor an http URI")
    authority, path, query = match.groups()
    # RFC 9110 section 4.2.4: userinfo in a received URI is an error; `@` is in no host.
    check_host(authority)
    if not path:
        # RFC 9112 section 3.2.4: this is how OPTIONS * looks in absolute form.
        path = "*" if method == "OPTIONS" and query is None else "/"
    return path, query or "", authority


def check_field(line: bytes, count: int, limit: int) -> None:
    """Raise unless `line` is `name: value` and at most the `limit`th of its section.

    Refused with it: a continuation line (obs-fold), white space before the first field or
    before the colon, an empty name, an empty line.

    Source: RFC 9112 sections 2.2, 5.1 and 5.2; RFC 9110 section 5.5.
    """
    if count > limit:
        raise HeadTooLarge(f"more than {limit} fields")
    if _FIELD_LINE.fullmatch(line.decode("latin-1")) is None:
        raise ProtocolError(f"{_shown(line)} is not a field")


def _shown(line: bytes | bytearray) -> str:
    """Return the beginning of `line` as it may be shown in a log."""
    return repr(bytes(line[:80]))
