"""Responses that do not arrive whole: whose fault the logs say it is, and how much was sent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from django_wsgiserve.events import AppFailed
from django_wsgiserve.workers.connection import State
from tests.workers.http_client import AnswerReader, get, reset
from tests.workers.served import Served
from tests.workers.test_slow_readers import LARGE, MEBIBYTE, only

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Serve = Callable[..., Served]


def test_bytes_sent_of_a_broken_off_answer_are_those_of_its_body(serve: Serve) -> None:
    def promise(environ: dict[str, Any], start_response: StartResponse) -> Any:
        fields = [(f"X-{number}", "x" * 5000) for number in range(10)]
        start_response("200 OK", [*fields, ("Content-Length", str(2 * MEBIBYTE))])
        return iter((b"x" * 1000, b"x" * 2 * MEBIBYTE))  # the second is too long: broken off

    served = serve(promise)
    with served.connect() as client:
        client.sendall(get("/"))
        head, _, body = AnswerReader(client).read_to_end().partition(b"\r\n\r\n")
    (finished,) = served.finished()
    assert len(head) > 50_000
    assert (finished.aborted, finished.sent_bytes, len(body)) == (True, 1000, 1000)


def test_bytes_sent_to_a_client_that_left_are_those_of_the_body(serve: Serve) -> None:
    def long_head(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("X-Long", "x" * 100_000), ("X-Longer", "x" * 100_000)])
        return [LARGE]

    served = serve(long_head)
    client = served.connect()
    client.sendall(get("/"))
    served.wait_until(lambda: only(served, State.FLUSHING) is not None)
    (connection,) = served.connections()
    sent_bytes = connection.sent_bytes
    assert connection.outcome is not None
    head_bytes = len(connection.outcome.head)
    assert head_bytes > 200_000
    reset(client)
    (finished,) = served.finished()
    assert finished.aborted
    assert finished.sent_bytes == sent_bytes - head_bytes


@pytest.mark.parametrize("expects", [False, True], ids=["at once", "after 100 Continue"])
def test_a_file_that_shrinks_while_it_is_sent_is_not_blamed_on_the_client(
    serve: Serve, tmp_path: Path, expects: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(LARGE)

    def file(environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    served = serve(file)
    with served.connect() as client:
        if expects:
            client.sendall(get("/file", "Expect: 100-continue", "Content-Length: 3"))
            assert AnswerReader(client).read().status == 100
            client.sendall(b"abc")
        else:
            client.sendall(get("/file"))
        served.wait_until(lambda: only(served, State.FLUSHING) is not None)
        shorter_bytes = len(LARGE) - 1000
        os.truncate(path, shorter_bytes)
        reader = AnswerReader(client)
        with pytest.raises(EOFError, match="1000 of 16777216 bytes did not come"):
            reader.read()
    (failed,) = served.wait_for(AppFailed)
    assert "became shorter while it was being sent: 1000 bytes are missing" in failed.summary
    assert failed.request.target == "/file"
    (finished,) = served.finished()
    assert (finished.aborted, finished.sent_bytes) == (True, shorter_bytes)
