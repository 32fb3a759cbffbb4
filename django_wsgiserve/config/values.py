"""Reads the values people write: "30s", "300MiB", "0660", "unix:/run/app.sock".

Each `Kind` turns what a settings file, a flag or an environment variable holds into one
typed value, and back into the text that would be written for it. Nothing here knows
which setting it reads, and no file, socket or name is looked at: only the form is judged.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from django_wsgiserve.config.access_format import FORMAT_NAMES, access_log_problems

T = TypeVar("T")

DEFAULT_PORT = 8000
UNIX_PATH_BYTES = 107
"""sun_path holds 108 bytes on Linux, one of them the final NUL (unix(7))."""


class BadValue(ValueError):
    """A value does not have the form its kind asks for.

    The message completes a sentence that starts with the name of the setting and shows
    the value with `!r`. `example` is what could have been written instead, or empty when
    the default is as good an example as any. A value with members has in `parts` each
    that is wrong, behind the place it has in it: `["admin"]["TIMEOUT"]`.
    """

    def __init__(
        self, message: str, example: str = "", parts: Sequence[tuple[str, BadValue]] = ()
    ) -> None:
        super().__init__(message)
        self.example = example
        self.parts = tuple(parts)

    @property
    def all_parts(self) -> tuple[tuple[str, BadValue], ...]:
        """What is wrong, one by one; a value without members is in the place of its own."""
        return self.parts or (("", self),)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """How the values of some settings are read and written.

    Attributes:
        name: What such a value is called in the reference: `duration`.
        metavar: What stands for it in `--help`.
        accepts: The forms that are understood, one sentence for the reference.
        parse: Reads a value; raises `BadValue` and nothing else.
        show: Writes a value so that `parse` reads the same one back.
    """

    name: str
    metavar: str
    accepts: str
    parse: Callable[[object], T]
    show: Callable[[T], str]


_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


def parse_whole(value: object) -> int:
    """Return a whole number, given as one or as its decimal digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value.strip())
    raise BadValue(f"must be a whole number, not {value!r}")


_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(ms|min|s|m|h|d)", re.IGNORECASE)
_SPANS = re.compile(rf"(?:{_SPAN.pattern} ?)+", re.IGNORECASE)
_PLAIN = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")


def parse_duration(value: object) -> float:
    """Return seconds from a number of them, a `timedelta`, "30s", "5m" or "1h 30m"."""
    # Here: the supervisor, which reads no settings, is 450 KiB smaller without.
    from datetime import timedelta

    seconds: float | None = None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = _as_float(value)
    elif isinstance(value, str):
        text = value.strip()
        if _PLAIN.fullmatch(text):
            seconds = float(text)
        elif _SPANS.fullmatch(text):
            spans = _SPAN.findall(text)
            seconds = math.fsum(float(count) * _SECONDS[unit.lower()] for count, unit in spans)
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        raise BadValue(f'must be a duration such as 30, "30s", "5m" or "1h", not {value!r}')
    # To the microsecond; and as 0 means "never" for some, next to nothing is not 0.
    return max(round(seconds, 6), 0.000001) if seconds else 0.0


def _as_float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:  # an int beyond 1.8e308
        return math.inf


def show_duration(seconds: float) -> str:
    """Return a duration in the largest unit that writes it without a fraction."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    if seconds == int(seconds):
        return f"{seconds:.0f}s"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


# K, M and G alone are powers of 1024, as in nginx and systemd; KB, MB and GB are the SI
# powers of 1000, as on a disk's label. Who cares about the 5 % writes KiB or KB.
_BYTES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _BYTES[_letter] = _BYTES[f"{_letter}ib"] = 1024**_power
    _BYTES[f"{_letter}b"] = 1000**_power
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,6})?) ?([kmgt]?(?:i?b)?)", re.IGNORECASE)


def parse_size(value: object) -> int:
    """Return bytes from a number of them, "512KiB", "300MiB", "1G" or "20MB"."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    unit = match[2].lower() if match else ""
    if match is None or unit not in _BYTES:
        raise BadValue(f'must be a size such as 1048576, "512KiB" or "300MiB", not {value!r}')
    return (
        int(match[1]) * _BYTES[unit] if match[1].isdigit() else int(float(match[1]) * _BYTES[unit])
    )


def show_size(size: int) -> str:
    """Return a size in the largest binary unit that writes it without a fraction."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit.lower()] == 0:
            return f"{size // _BYTES[unit.lower()]}{unit}"
    return str(size)


_OCTAL = re.compile(r"(?:0o)?([0-7]{1,7})", re.IGNORECASE)


def parse_mode(value: object) -> int:
    """Return permission bits from 0o660 or "660"; digits in a string are octal."""
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value <= 0o777:
            return value
        octal = _OCTAL.fullmatch(str(value))
        example = f"0o{octal[1]}" if octal and int(octal[1], 8) <= 0o777 else ""
        raise BadValue(f"must be permission bits such as 0o660, not {value!r}", example)
    match = _OCTAL.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or int(match[1], 8) > 0o777:
        raise BadValue(f'must be permission bits such as "660", not {value!r}')
    return int(match[1], 8)


_BOOLEANS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def parse_boolean(value: object) -> bool:
    """Return a truth value; in text: true, yes, on, 1 and their opposites."""
    if isinstance(value, bool):
        return value
    known = _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else None
    if known is None:
        raise BadValue(f"must be true or false, not {value!r}")
    return known


def parse_text(value: object) -> str:
    """Return one line of text, which may be empty."""
    if not isinstance(value, str):
        raise BadValue(f"must be text, not {value!r}")
    if not value.isprintable():
        raise BadValue(f"must be printable text on one line, not {value!r}")
    return value


def parse_word(value: object) -> str:
    """Return a word in lower case."""
    return parse_text(value).strip().lower()


_NONE = frozenset({"", "off", "none"})


def parse_file(value: object) -> str:
    """Return a path, "-" for the standard stream, or empty for none ("off", "none")."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or "\0" in value:
        raise BadValue(f"must be the path of a file, not {value!r}")
    return "" if value.strip().lower() in _NONE else value


def parse_workers(value: object) -> int:
    """Return a number of processes; 0 stands for "auto"."""
    if isinstance(value, str) and value.strip().lower() == "auto":
        return 0
    try:
        count = parse_whole(value)
    except BadValue:
        count = 0
    if count < 1:
        raise BadValue(f'must be "auto" or a number of processes, not {value!r}')
    return count


def _parts(value: object, what: str) -> list[object]:
    """Return the members of a list or of a comma separated text, in order."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list | tuple):
        members: list[object] = []
        for member in value:
            members.extend(_parts(member, what) if isinstance(member, str) else [member])
        return members
    raise BadValue(f"must be {what} or a list of them, not {value!r}")


_PATH = re.compile(r"/[!-~]*")  # what may stand in a request line


def parse_paths(value: object) -> tuple[str, ...]:
    """Return paths of this site, each starting with a slash; "off" or [] for none."""
    if isinstance(value, str) and value.strip().lower() in _NONE:
        return ()
    paths = []
    for part in _parts(value, 'a path such as "/"'):
        if not isinstance(part, str) or _PATH.fullmatch(part) is None:
            raise BadValue(f'must hold paths that start with "/", not {part!r}', "/")
        paths.append(part)
    return tuple(paths)


def parse_access_format(value: object) -> str:
    """Return `auto`, `combined`, `json`, or a format of Gunicorn's identifiers."""
    if not isinstance(value, str):
        raise BadValue(f"must be text, not {value!r}")
    if (word := value.strip().lower()) in FORMAT_NAMES:
        return word
    if problems := access_log_problems(value):
        raise BadValue(f"cannot be {value!r}: {'; '.join(problems)}")
    return value


def parse_binds(value: object) -> tuple[str, ...]:
    """Return addresses to listen on, at least one, each in the form it will be shown in."""
    several = [value] if isinstance(value, int) else value  # parse_bind knows what to say
    binds = tuple(parse_bind(part) for part in _parts(several, "an address"))
    if not binds:
        raise BadValue(f"must name at least one address, not {value!r}")
    twice = sorted({b for b in binds if binds.count(b) > 1 and not b.endswith(":0")})
    if twice:
        raise BadValue(f"names {twice[0]!r} more than once", show_list(dict.fromkeys(binds)))
    return binds


def parse_bind(value: object) -> str:
    """Return one address as `host:port`, `[v6]:port`, `unix:path` or `fd://n`.

    A missing port is 8000 and a missing host is every IPv4 address, as in Gunicorn.
    Whether the address can be listened on is only known by doing so.
    """
    if not isinstance(value, str) or not value.isprintable():
        example = f"127.0.0.1:{value}" if isinstance(value, int) and 0 < value < 2**16 else ""
        raise BadValue(f"must be an address such as 127.0.0.1:8000, not {value!r}", example)
    address = value.strip().removeprefix("tcp://")
    if address.startswith("unix:"):
        return _unix_bind(value, address)
    if address.startswith("fd://"):
        number = address.removeprefix("fd://")
        if not (number.isascii() and number.isdigit() and len(number) <= 9):
            raise BadValue(f"must name a descriptor by its number, not {value!r}", "fd://3")
        return f"fd://{int(number)}"
    if "/" in address:
        path = f"unix:{address}" if address.startswith("/") else ""
        raise BadValue(f"must be host:port, unix:path or fd://number, not {value!r}", path)
    return _inet_bind(value, address)


def _unix_bind(value: str, address: str) -> str:
    path = address.removeprefix("unix:")
    if path.startswith("//"):
        path = path[2:]
    if not path or path.endswith("/"):
        raise BadValue(f"must name a socket file, not {value!r}", "unix:/run/app.sock")
    if len(os.fsencode(path)) > UNIX_PATH_BYTES:
        raise BadValue(f"names a path longer than {UNIX_PATH_BYTES} bytes, {value!r}")
    return f"unix:{path}"


_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")


def _inet_bind(value: str, address: str) -> str:
    if address.isdigit():
        raise BadValue(f"must be host:port, not the number {value!r}", f"127.0.0.1:{address}")
    if address.count(":") > 1 and not address.startswith("["):
        raise BadValue(
            f"must have an IPv6 address in brackets, not {value!r}",
            f"[{address}]:{DEFAULT_PORT}" if _is_ipv6(address) else f"[::]:{DEFAULT_PORT}",
        )
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, str(DEFAULT_PORT)
    if re.fullmatch(r"[0-9]{1,5}", port) is None or int(port) > 0xFFFF:
        raise BadValue(f"must have a port from 0 to 65535, not {port!r}")
    if host in {"", "*"}:
        host = "0.0.0.0"  # noqa: S104 - what was asked for
    if not _is_host(host):
        raise BadValue(f"must have a host name or an IP address, not {host!r}")
    return f"{host}:{int(port)}"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _is_host(text: str) -> bool:
    if text.startswith("["):
        return text.endswith("]") and _is_ipv6(text[1:-1])
    if re.fullmatch(r"[0-9.]+", text):  # 1.2.3 or 256.0.0.1 is a slip, not a name
        try:
            ipaddress.IPv4Address(text)
        except ValueError:
            return False
        return True
    return _HOST.fullmatch(text) is not None


def show_list(values: Iterable[str]) -> str:
    """Return values as one comma separated text."""
    return ",".join(values)
