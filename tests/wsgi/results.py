"""What applications return: iterables that note what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.wsgi.serving import App

PLAIN = [("Content-Type", "text/plain")]


class Result:
    """An iterable that notes how far it was read and how often it was closed."""

    def __init__(self, *blocks: bytes, endless: bool = False) -> None:
        self.read = 0
        self.closed = 0
        self._blocks = blocks
        self._endless = endless

    def __iter__(self) -> Iterator[bytes]:
        while True:
            for block in self._blocks:
                self.read += 1
                assert self.read < 1000, "read on although nobody needed it"
                yield block
            if not self._endless:
                return

    def close(self) -> None:
        """Note it."""
        self.closed += 1


class SizedResult(Result):
    """One that also says how many blocks it has."""

    def __len__(self) -> int:
        return len(self._blocks)


class DjangoLike(Result):
    """What Django's `HttpResponse` looks like from here."""

    streaming = False

    @property
    def content(self) -> bytes:
        """The body, without iteration."""
        return b"".join(self._blocks)


def answering(result: Any, *headers: tuple[str, str], status: Any = "200 OK") -> App:
    """Return an application that starts with these headers and returns `result`."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, [*PLAIN, *headers])
        return result

    return app
