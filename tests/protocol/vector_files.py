r"""Loads `vectors/<topic>/<name>.http` with the expected result beside it.

A `.http` file is what a client sends, escaped: `\r`, `\n`, `\t`, `\xff` and `\\`. Its
own line breaks mean nothing, they are there for the eye. The `.toml` file of the same name:

    rfc, why        the rule, and what is at stake
    eof             the client closes after the last byte (default: it waits)
    limits          of `Limits`, where they are not the defaults
    [[request]]     a request that comes out, in order: any slots of `RequestHead`, `body`
                    (Latin-1), and `whole = false` when it does not end
    status, error   how it ends: the status and the class; otherwise the connection waits
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent / "vectors"
_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|(.))")
_ESCAPES = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}


@dataclass(frozen=True)
class Vector:
    """One file of bytes and what must come of them."""

    name: str
    data: bytes
    rfc: str
    why: str
    eof: bool = False
    status: int | None = None
    error: str | None = None
    limits: dict[str, int] = field(default_factory=dict)
    request: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        return self.name


def unescape(text: bytes) -> bytes:
    """Return the bytes that an `.http` file stands for."""
    return _ESCAPE.sub(
        lambda match: bytes.fromhex(match[1].decode()) if match[1] else _ESCAPES[match[2]],
        text.replace(b"\n", b""),
    )


def load_vectors() -> list[Vector]:
    """Return all vectors, by name; a file without its companion is an error."""
    vectors = []
    for path in sorted(VECTORS.glob("*/*.http")):
        expected = tomllib.loads(path.with_suffix(".toml").read_text())
        name = path.relative_to(VECTORS).with_suffix("").as_posix()
        vectors.append(Vector(name=name, data=unescape(path.read_bytes()), **expected))
    assert len(vectors) == len(list(VECTORS.glob("*/*.toml")))
    return vectors
