"""Plain WSGI callables: what PEP 3333 permits and Django never does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.validate import validator

PLAIN = [("Content-Type", "text/plain")]
calls = 0
closed: list[str] = []


def beside(application: WSGIApplication) -> WSGIApplication:
    """Return `application` with the callables of this module under `/raw/`."""

    def dispatch(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        global calls
        calls += 1
        prefix, _, name = environ["PATH_INFO"].rpartition("/")
        if prefix == "/raw":
            return RAW[name](environ, start_response)
        return application(environ, start_response)

    return dispatch


def count(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """How often this worker's application was called, this call included."""
    start_response("200 OK", PLAIN)
    return [b"%d" % calls]


def checked(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Read everything there is of the input, under wsgiref's validator."""
    body = b"".join(iter(lambda: environ["wsgi.input"].read(1000), b""))
    start_response("200 OK", PLAIN)
    return [b"%d bytes" % len(body)]


def write(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Use the imperative `write`, and an iterable after it."""
    send = start_response("200 OK", PLAIN)
    send(b"written, ")
    send(b"twice, ")
    return [b"and returned"]


def header_break(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Try to smuggle a header of one's own."""
    start_response("200 OK", [*PLAIN, ("X-Broken", "a\r\nX-Smuggled: yes")])
    return [b"never to be seen"]


def changed_mind(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Replace a head that was not yet sent, as PEP 3333 permits with exc_info."""
    start_response("200 OK", PLAIN)
    try:
        {}["found out too late"]
    except KeyError as error:
        start_response("503 Service Unavailable", PLAIN, (KeyError, error, error.__traceback__))
    return [b"changed my mind"]


class Closing:
    """An iterable that remembers being closed, and may break off midway."""

    def __init__(self, name: str, *, breaks: bool) -> None:
        self.name = name
        self.breaks = breaks

    def __iter__(self) -> Iterator[bytes]:
        yield b"first part, "
        if self.breaks:
            msg = "secret-in-the-middle"
            raise RuntimeError(msg)
        yield b"second part"

    def close(self) -> None:
        """Remember."""
        closed.append(self.name)


def whole(environ: WSGIEnvironment, start_response: StartResponse) -> Closing:
    """Return an iterable with a `close`."""
    start_response("200 OK", PLAIN)
    return Closing(environ["QUERY_STRING"], breaks=False)


def midway(environ: WSGIEnvironment, start_response: StartResponse) -> Closing:
    """Return an iterable that raises after its first part."""
    start_response("200 OK", PLAIN)
    return Closing(environ["QUERY_STRING"], breaks=True)


def closings(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Which iterables were closed."""
    start_response("200 OK", PLAIN)
    return [" ".join(closed).encode()]


def short(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Announce more than is sent."""
    start_response("200 OK", [*PLAIN, ("Content-Length", "100")])
    yield b"ten "
    yield b"bytes!"


def file_wrapper(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Send a file from its middle on: the wrapper starts where the file stands."""
    file = Path("download.bin").open("rb")  # noqa: SIM115 - the server closes it
    file.seek(1000)
    start_response("200 OK", PLAIN)
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
    return wrapped


def silent(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Forget to call start_response."""
    return [b"text without a head"]


def fail(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Raise, where no framework catches it."""
    msg = "secret-in-the-callable"
    raise RuntimeError(msg)


def system_exit(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Raise what only a careless library raises."""
    raise SystemExit(3)


def endless(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Produce a kilobyte after the other, for as long as somebody reads."""
    start_response("200 OK", PLAIN)
    while True:
        yield b"y" * 1024


def open_files(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """What this process has open, a line each."""
    start_response("200 OK", PLAIN)
    return ["\n".join(_links()).encode()]


def _links() -> Iterator[str]:
    for entry in Path("/proc/self/fd").iterdir():
        try:
            yield str(entry.readlink())
        except FileNotFoundError:
            continue


RAW: dict[str, Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]] = {
    "count": count,
    "checked": validator(checked),
    "write": write,
    "header-break": header_break,
    "changed-mind": changed_mind,
    "whole": whole,
    "short": short,
    "midway": midway,
    "closings": closings,
    "file-wrapper": file_wrapper,
    "silent": silent,
    "raise": fail,
    "system-exit": system_exit,
    "endless": endless,
    "open-files": open_files,
}
