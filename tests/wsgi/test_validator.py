"""The standard library's own judge of PEP 3333 between the application and the gateway."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from tests.wsgi.serving import App, Served, head, serve

PLAIN = [("Content-Type", "text/plain")]


def judged(app: App, *request: str, body: bytes = b"", version: str = "1.1") -> Served:
    """Serve `app` inside the validator, which raises in the application when we break a rule."""
    served = serve(validator(app), head(*(request or ("GET", "/")), version=version), body=body)
    assert served.failures == []
    return served


def hello(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", PLAIN)
    return [b"hello"]


def stream(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", PLAIN)
    yield b"one"
    yield b"two"


def echo(environ: dict[str, Any], start_response: Any) -> Any:
    read = environ["wsgi.input"]
    start_response("200 OK", PLAIN)
    return [read.read(3), *read, read.read(5)]


def write(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", PLAIN)(b"one")
    return [b"two"]


def file(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"file"), 2)


def complain(environ: dict[str, Any], start_response: Any) -> Any:
    errors = environ["wsgi.errors"]
    errors.write("one\n")
    errors.writelines(["two\n"])
    errors.flush()
    start_response("200 OK", PLAIN)
    return [b""]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(
    ("app", "body"), [(hello, b"hello"), (stream, b"onetwo"), (write, b"onetwo"), (file, b"file")]
)
def test_get_is_judged_right(app: App, body: bytes, version: str) -> None:
    assert judged(app, version=version).body == body


@pytest.mark.parametrize(
    "target",
    ["/", "/a/b?c=d", "/caf%C3%A9", "//", "http://example.org", "http://example.org/x?y"],
)
def test_targets_are_judged_right(target: str) -> None:
    assert judged(hello, "GET", target).body == b"hello"


def test_asterisk_form_is_judged_right() -> None:
    assert judged(hello, "OPTIONS", "*").body == b"hello"


def test_head_is_judged_right() -> None:
    def no_body(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return []

    served = judged(no_body, "HEAD", "/")
    assert served.wire.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "fields", [["Transfer-Encoding: chunked"], ["Content-Length: 21"]], ids=["chunked", "length"]
)
@pytest.mark.parametrize("body", [b"first\nsecond\nthe third", b""], ids=["body", "empty"])
def test_post_is_judged_right(fields: list[str], body: bytes) -> None:
    if not body:
        fields = [field.replace("21", "0") for field in fields]
    request = ("POST", "/", "Content-Type: text/plain", *fields)
    assert judged(echo, *request, body=body).body == body


def test_errors_are_judged_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert judged(complain).body == b""
    assert capsys.readouterr().err == "one\ntwo\n"


def test_failing_application_is_judged_right() -> None:
    def fail(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"begun"
        raise ValueError("boom")

    served = serve(validator(fail))
    assert served.outcome.aborted
    assert "boom" in served.failure.summary
