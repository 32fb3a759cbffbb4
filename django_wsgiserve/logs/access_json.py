"""A request as named values, and the JSON line of the access log.

Two functions know the names: `access_fields` for whatever a request may be, and
`json_observer`, which writes nearly every request without asking for any of that.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from django_wsgiserve.events import RequestFinished
from django_wsgiserve.logs.times import HALF_MS, ISO_SECONDS, iso_time

T = TypeVar("T")

LOGGER_NAME = "django_wsgiserve.access"

NO_FIELDS: dict[str, str] = {}
"""The header fields of a request that could not be read."""

_encode_json = json.JSONEncoder(separators=(",", ":"), default=repr).encode

_process_id = os.getpid()


def _remember_process_id() -> None:
    """Ask once a process: glibc keeps no copy, so each `getpid` is a system call."""
    global _process_id
    _process_id = os.getpid()


os.register_at_fork(after_in_child=_remember_process_id)


def remote_user(event: RequestFinished, fields: Mapping[str, str]) -> str:
    """Return who asked: `REMOTE_USER` if the application set it, else the name in Basic.

    The latter is a claim of the client, as in Apache's log: what it is worth the status says.
    """
    if event.environ is not None:
        user = event.environ.get("REMOTE_USER")
        if isinstance(user, str) and user:
            return user
    scheme, _, credentials = fields.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "-"
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True)
    except (binascii.Error, ValueError):
        return "-"
    return decoded.partition(b":")[0].decode("latin-1") or "-"


def access_fields(event: RequestFinished) -> dict[str, Any]:
    """Return the event as named values: the fields of a JSON line and of a log record.

    Names and meanings are a promise, see docs/reference/access-log.md. `None` where
    there is nothing to say. Text is as the client sent it, read as UTF-8 where it is.
    """
    request = event.request
    fields = NO_FIELDS if request is None else request.headers
    user = remote_user(event, fields)
    return {
        "peer": event.peer or None,
        "user": None if user == "-" else _as_utf8(user),
        "method": request.method if request else None,
        "host": _as_utf8(request.authority) if request else None,
        "path": _as_utf8(request.path) if request else None,
        "query": _as_utf8(request.query) if request else None,
        "protocol": request.version if request else None,
        "request_line": None if request else _as_utf8(event.request_line),
        "status": event.status,
        "sent_bytes": event.sent_bytes,
        "duration_ms": round(event.duration_s * 1000, 3),
        "aborted": event.aborted,
        "referer": _as_utf8(fields["referer"]) if "referer" in fields else None,
        "user_agent": _as_utf8(fields["user-agent"]) if "user-agent" in fields else None,
    }


def _as_utf8(value: str) -> str:
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def json_observer(write: Callable[[str], T]) -> Callable[[RequestFinished], T]:
    """Return what gives `write` the event as one JSON object on one line, ASCII only.

    Nearly every request consists of text that JSON writes as it came. One look at all of
    it together says so, and then the line takes no call instead of some thirty.
    """

    def observe(event: RequestFinished) -> T:
        request = event.request
        if request is None:
            return write(careful_json_line(event))
        fields = request.headers
        environ = event.environ
        user = "-"
        if "authorization" in fields or (environ is not None and "REMOTE_USER" in environ):
            user = remote_user(event, fields)
        # Not `get`: that is a call for each.
        referer = fields["referer"] if "referer" in fields else None  # noqa: SIM401
        user_agent = fields["user-agent"] if "user-agent" in fields else None  # noqa: SIM401
        text = (
            f"{event.peer}{user}{request.method}{request.authority}{request.path}{request.query}"
            f"{request.version}{referer}{user_agent}"
        )
        # `!a` escapes backslashes and all that is not printable ASCII; it is not a call.
        if '"' in text or f"{text!a}" != f"'{text}'":
            return write(careful_json_line(event))
        at_s = event.started_at_s + HALF_MS
        milliseconds = "%03d" % (at_s % 1 * 1000)  # noqa: UP031 - a third of the time of a format
        peer_json = f'"{event.peer}"' if event.peer else "null"
        user_json = "null" if user == "-" else f'"{user}"'
        referer_json = "null" if referer is None else f'"{referer}"'
        user_agent_json = "null" if user_agent is None else f'"{user_agent}"'
        # In two parts: of more than 30 pieces CPython makes a list and calls `join`.
        who = (
            f'{{"time":"{ISO_SECONDS[at_s // 1]}.{milliseconds}Z",'
            f'"logger":"django_wsgiserve.access","pid":{_process_id},'
            f'"peer":{peer_json},"user":{user_json},'
        )
        return write(
            f'{who}"method":"{request.method}","host":"{request.authority}",'
            f'"path":"{request.path}","query":"{request.query}",'
            f'"protocol":"{request.version}","request_line":null,'
            f'"status":{event.status},"sent_bytes":{event.sent_bytes},'
            f'"duration_ms":{event.duration_s * 1000:.3f},'
            f'"aborted":{"true" if event.aborted else "false"},'
            f'"referer":{referer_json},"user_agent":{user_agent_json}}}\n'
        )

    return observe


def careful_json_line(event: RequestFinished) -> str:
    """Return what `json_observer` writes, of any event: escaped, and read as UTF-8 where it is."""
    return (
        f'{{"time":"{iso_time(event.started_at_s)}","logger":"{LOGGER_NAME}","pid":{_process_id},'
        f"{_encode_json(access_fields(event))[1:]}\n"
    )
