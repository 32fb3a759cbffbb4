"""What the fields of a valid head say about the message: where it ends, what follows it.

Everything here is a decision over header values that are already split and decoded.
The chunked coding itself is in `chunked`; nothing here reads a body.
"""

from __future__ import annotations

import ipaddress
import re

from django_wsgiserve.errors import (
    BodyTooLarge,
    ExpectationFailed,
    ProtocolError,
    UnsupportedCoding,
)

# RFC 9110 section 8.6: Content-Length = 1*DIGIT. int() also takes "+5", "1_0", " 5" and
# Arabic digits, which a proxy in front may read as another number: that is request
# smuggling. 18 digits (under 2**63) are more than any body has.
_CONTENT_LENGTH = re.compile(r"[0-9]{1,18}")
_CODING_LIST = re.compile(
    r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:[ \t]*,[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+)*"
)

# RFC 3986 section 3.2.2. An IPvFuture is refused: there is none. A zone identifier too:
# it means nothing outside the client's machine.
_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)"
    r"(?::(?P<port>[0-9]{0,5}))?"
)
_VALID_HOSTS_MAX = 1024
_HOST_BYTES_MAX = 255  # the longest DNS name and change; a longer one is not worth keeping
valid_hosts: set[str] = set()
"""What `check_host` has accepted; asked by its callers, to spare the call."""


def check_host(host: str) -> None:
    """Raise `ProtocolError` unless `host` is a non-empty host with an optional port.

    Two Host fields, joined as `a, b`, fail here as well: no host has a space. An empty
    one is refused because RFC 9110 section 4.2.1 tells a recipient to reject an `http`
    URI without a host. The valid ones are remembered (at most 1024, then forgotten).

    Source: RFC 9112 section 3.2, RFC 3986 section 3.2.2.
    """
    if host in valid_hosts:
        return
    match = _HOST.fullmatch(host)
    if match is None or int(match["port"] or 0) > 0xFFFF:
        raise ProtocolError(f"Host {host[:80]!r} is not one valid host")
    if match["v6"] is not None:
        try:
            ipaddress.IPv6Address(match["v6"])
        except ValueError:
            raise ProtocolError(f"Host {host!r} is not a valid IPv6 address") from None
    if len(valid_hosts) >= _VALID_HOSTS_MAX:
        valid_hosts.clear()
    if len(host) <= _HOST_BYTES_MAX:
        valid_hosts.add(host)


def body_framing(headers: dict[str, str], version: str, limit_bytes: int) -> tuple[int, bool]:
    """Return `(content_length, chunked)` of a request that names either field.

    Args:
        headers: Lower-case names; repeated fields joined with `, `.
        version: `HTTP/1.1` or `HTTP/1.0`.
        limit_bytes: The largest body taken; 0 for no limit.

    Returns:
        The announced bytes and False, or 0 and True for a chunked body.

    Raises:
        ProtocolError: The framing is ambiguous or malformed.
        UnsupportedCoding: A transfer coding other than chunked.
        BodyTooLarge: The announced length exceeds `limit_bytes`.

    Source: RFC 9112 sections 6.1 to 6.3.
    """
    if "transfer-encoding" in headers:
        if "content-length" in headers:
            # Section 6.3 lets a server read it as chunked. Whoever sends both is
            # broken or smuggling, and a proxy in front may have believed the other one.
            raise ProtocolError("both Content-Length and Transfer-Encoding are present")
        _check_transfer_encoding(headers["transfer-encoding"], version)
        return 0, True
    value = headers["content-length"]
    # "5, 5" (one field or two) is refused although section 6.3 permits to read it as 5:
    # nothing sane sends it, and a peer that takes the first or the last of a list
    # differs from us as soon as the values do.
    if _CONTENT_LENGTH.fullmatch(value) is None:
        raise ProtocolError(f"Content-Length {value[:80]!r} is not one plain number")
    content_length = int(value)
    if limit_bytes and content_length > limit_bytes:
        raise BodyTooLarge(f"a body of {content_length} bytes exceeds the limit of {limit_bytes}")
    return content_length, False


def _check_transfer_encoding(value: str, version: str) -> None:
    """Raise unless `value` is exactly `chunked`, in any case, in an HTTP/1.1 request."""
    if version == "HTTP/1.0":
        # RFC 9112 section 6.1: the framing of such a message is to be treated as faulty.
        raise ProtocolError("Transfer-Encoding in an HTTP/1.0 request")
    if value == "chunked":
        return
    codings = [coding.strip(" \t") for coding in value.lower().split(",")]
    if codings == ["chunked"]:
        return
    if _CODING_LIST.fullmatch(value) is None or "chunked" in codings[:-1]:
        # Not a list of names, or chunked twice or not last: section 6.3 asks for a 400.
        raise ProtocolError(f"Transfer-Encoding {value[:80]!r} does not frame a body")
    raise UnsupportedCoding(f"the transfer coding {value[:80]!r} is not supported")


def persists(connection: str, version: str) -> bool:
    """Return whether the client's `Connection` options keep the connection open.

    Args:
        connection: The joined value: a comma-separated list in any case.
        version: `HTTP/1.1` (persistent unless closed) or `HTTP/1.0` (the reverse).

    Source: RFC 9112 section 9.3.
    """
    if connection == "close":  # nearly always it is this alone
        return False
    options = {option.strip(" \t") for option in connection.lower().split(",")}
    if "close" in options:
        return False
    return version != "HTTP/1.0" or "keep-alive" in options


def check_expectation(expect: str) -> None:
    """Raise `ExpectationFailed` unless every expectation is `100-continue`.

    Source: RFC 9110 section 10.1.1.
    """
    for expectation in expect.lower().split(","):
        if expectation.strip(" \t") != "100-continue":
            raise ExpectationFailed(f"the expectation {expect[:80]!r} cannot be met")
