"""What a line of the access log says about a request."""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.glogging import Logger, SafeAtoms
from hypothesis import given
from hypothesis import strategies as st

from django_wsgiserve.config.access_format import COMBINED
from django_wsgiserve.events import RequestFinished
from django_wsgiserve.logs.access_json import access_fields, careful_json_line
from django_wsgiserve.logs.access_line import compile_format, compile_observer, escape
from tests.logs.sample_events import STARTED_AT_S, finished, head

ALL = (
    '%(h)s %(l)s %(u)s "%(r)s" %(s)s %(m)s %(U)s %(q)s %(H)s %(b)s %(B)s "%(f)s" "%(a)s" '
    "%(T)s %(D)s %(M)s %(L)s %(p)s %({Host}i)s %({x-request-id}o)s %({remote_addr}e)s "
    "%({wsgi.url_scheme}e)s %({Missing}i)s %({Missing}o)s %({Missing}e)s 100%%"
)
# Bytes as the reader decodes them, and what only an application can put there.
client_text = st.text(alphabet=st.characters(max_codepoint=255), max_size=60)
any_text = st.text(max_size=30)
json_line = compile_format("json")


def render(access_log_format: str, event: RequestFinished) -> str:
    line = compile_format(access_log_format)(event)
    assert line.endswith("\n")
    return line[:-1]


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("h", "192.0.2.7"),
        ("l", "-"),
        ("u", "-"),
        ("r", "GET /books/caf%C3%A9?page=2 HTTP/1.1"),
        ("s", "200"),
        ("m", "GET"),
        ("U", r"/books/caf\xc3\xa9"),
        ("q", "page=2"),
        ("H", "HTTP/1.1"),
        ("b", "5120"),
        ("B", "5120"),
        ("f", "https://library.example/"),
        ("a", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("T", "1"),
        ("D", "1234567"),
        ("M", "1234"),
        ("L", "1.234567"),
        pytest.param("p", f"<{os.getpid()}>", id="p"),  # xdist wants the same id everywhere
        ("{Host}i", "library.example"),
        ("{X-Missing}i", "-"),
        ("{x-request-id}o", "4711"),
        ("{X-Missing}o", "-"),
        ("{remote_addr}e", "192.0.2.7"),
        ("{WSGI.URL_SCHEME}e", "https"),
        ("{MISSING}e", "-"),
    ],
)
def test_identifier_says(identifier: str, expected: str) -> None:
    assert render(f"%({identifier})s", finished()) == expected


def test_time_is_when_the_request_began_in_local_time() -> None:
    at = datetime.datetime.fromtimestamp(STARTED_AT_S).astimezone()
    assert render("%(t)s", finished()) == at.strftime("[%d/%b/%Y:%H:%M:%S %z]")


@given(st.floats(min_value=0, max_value=4e9))
def test_time_of_any_second_is_that_of_strftime(started_at_s: float) -> None:
    at = datetime.datetime.fromtimestamp(started_at_s // 1).astimezone()
    line = render("%(t)s", finished(started_at_s=started_at_s))
    assert line == at.strftime("[%d/%b/%Y:%H:%M:%S %z]")


def test_unreadable_request_is_logged_with_what_came_of_it() -> None:
    event = finished(request=None, request_line="GET /\x00", status=400, environ=None)
    assert render('"%(r)s" %(s)s %(m)s %(U)s %(q)s %(H)s %(f)s %({Host}i)s %({X}e)s', event) == (
        r'"GET /\x00" 400 - - - - - - -'
    )


def test_nothing_received_and_no_address_are_dashes() -> None:
    event = finished(request=None, request_line="", peer="")
    assert render("%(h)s %(r)s", event) == "- -"


@pytest.mark.parametrize(
    ("authorization", "user"),
    [
        ("Basic YWRhOnNlY3JldA==", "ada"),
        ("basic YWRhOnNlY3JldA==", "ada"),
        ("Basic YWRh", "ada"),
        ("Basic OnNlY3JldA==", "-"),
        ("Basic !!!", "-"),
        ("Basic \xe9", "-"),
        ("Basic", "-"),
        ("Bearer YWRhOnNlY3JldA==", "-"),
        ("Basic InkKOng=", r"\"y\x0a"),
    ],
)
def test_user_is_read_from_basic_credentials(authorization: str, user: str) -> None:
    event = finished(request=head(headers={"authorization": authorization}))
    assert render("%(u)s", event) == user
    assert "secret" not in render(ALL, event)


def test_user_that_the_application_names_comes_before_the_claimed_one() -> None:
    event = finished(
        request=head(headers={"authorization": "Basic YWRhOnNlY3JldA=="}),
        environ={"REMOTE_USER": "grace"},
    )
    assert render("%(u)s", event) == "grace"
    assert access_fields(event)["user"] == "grace"


def test_repeated_response_field_is_joined() -> None:
    event = finished(headers=[("Vary", "Cookie"), ("vary", "Accept")])
    assert render("%({Vary}o)s", event) == "Cookie, Accept"


def test_environ_value_that_cannot_be_text_is_a_dash() -> None:
    class Stubborn:
        def __str__(self) -> str:
            raise RuntimeError

    event = finished(environ={"STUBBORN": Stubborn(), "NUMBER": 7, "EURO": "\u20ac"})
    assert render("%({STUBBORN}e)s %({NUMBER}e)s %({EURO}e)s", event) == r"- 7 \xe2\x82\xac"


def test_width_and_precision_are_those_of_percent_formatting() -> None:
    assert render("[%(m)5s] [%(m)-5s] [%(D)012d] [%(a).7s]", finished()) == (
        "[  GET] [GET  ] [000001234567] [Mozilla]"
    )


def test_precision_cuts_before_escaping() -> None:
    event = finished(request=head(headers={"user-agent": 'abc"def'}))
    assert render('"%(a).4s"', event) == r'"abc\""'


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        ('say "hi"', r"say \"hi\""),
        ("back\\slash", r"back\\slash"),
        ("a\r\nb\tc\x00\x7f", r"a\x0d\x0ab\x09c\x00\x7f"),
        ("caf\xc3\xa9", r"caf\xc3\xa9"),
        ("\u2028\ud800", r"\xe2\x80\xa8\xed\xa0\x80"),
    ],
)
def test_escaping_leaves_printable_ascii(raw: str, escaped: str) -> None:
    assert escape(raw) == escaped


@given(client_text, client_text, client_text, client_text, any_text)
def test_no_input_can_forge_a_line_or_leave_its_quotes(
    request_line: str, agent: str, referer: str, path: str, variable: str
) -> None:
    event = finished(
        request=head(
            path=path, query=path, headers={"user-agent": agent, "referer": referer, "x": agent}
        ),
        request_line=request_line,
        headers=[("X", referer)],
        environ={"V": variable},
    )
    quoted = r'"((?:[^"\\]|\\.)*)"'
    line = render(
        " ".join(f'"%({name})s"' for name in "rfaUq") + ' "%({X}i)s" "%({X}o)s" "%({V}e)s"', event
    )
    assert line.isascii()
    assert line.isprintable()
    assert re.fullmatch(" ".join([quoted] * 8), line)


@given(client_text, client_text, any_text)
def test_json_line_is_one_line_and_reads_back(request_line: str, agent: str, user: str) -> None:
    event = finished(
        request=head(headers={"user-agent": agent}),
        request_line=request_line,
        environ={"REMOTE_USER": user},
    )
    line = json_line(event)
    assert line.count("\n") == 1
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    values = json.loads(line)
    assert {name: values[name] for name in access_fields(event)} == access_fields(event)


def test_json_line_has_the_promised_fields() -> None:
    assert json.loads(json_line(finished())) == {
        "time": "2026-09-21T14:13:19.250Z",
        "logger": "django_wsgiserve.access",
        "pid": os.getpid(),
        "peer": "192.0.2.7",
        "user": None,
        "method": "GET",
        "host": "library.example",
        "path": "/books/caf%C3%A9",
        "query": "page=2",
        "protocol": "HTTP/1.1",
        "request_line": None,
        "status": 200,
        "sent_bytes": 5120,
        "duration_ms": 1234.567,
        "aborted": False,
        "referer": "https://library.example/",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
    }


def test_json_line_of_an_unreadable_request_has_the_same_fields() -> None:
    event = finished(request=None, request_line="BOOM\r", status=400, environ=None, aborted=True)
    values = json.loads(json_line(event))
    assert list(values) == list(json.loads(json_line(finished())))
    assert (values["method"], values["path"], values["request_line"]) == (None, None, "BOOM\r")
    assert values["aborted"] is True


def test_json_text_is_read_as_utf8_where_it_is() -> None:
    agents = {"caf\xc3\xa9": "caf\u00e9", "caf\xe9": "caf\u00e9"}
    for received, shown in agents.items():
        event = finished(request=head(headers={"user-agent": received}))
        assert json.loads(json_line(event))["user_agent"] == shown


# What most requests consist of, and now and then what has to be escaped.
plain_text = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
mixed_text = plain_text | plain_text | client_text
unix_time = st.floats(min_value=0, max_value=4e9)


@given(
    texts=st.lists(mixed_text, min_size=5, max_size=5),
    fields=st.dictionaries(
        st.sampled_from(["referer", "user-agent", "host", "accept"]), mixed_text, max_size=4
    ),
    authorization=st.none() | st.sampled_from(["Basic YWRhOnNlY3JldA==", "Bearer x", "Basic Ilwi"]),
    environ=st.none() | st.dictionaries(st.just("REMOTE_USER"), any_text | st.none()),
    started_at_s=unix_time,
    duration_s=st.floats(min_value=0, max_value=1e6),
    aborted=st.booleans(),
)
def test_json_line_says_the_same_whether_or_not_it_is_careful(  # noqa: PLR0913 - all of an event
    texts: list[str],
    fields: dict[str, str],
    authorization: str | None,
    environ: dict[str, Any] | None,
    started_at_s: float,
    duration_s: float,
    aborted: bool,
) -> None:
    method, authority, path, query, peer = texts
    if authorization is not None:
        fields = {**fields, "authorization": authorization}
    event = finished(
        request=head(method=method, authority=authority, path=path, query=query, headers=fields),
        peer=peer,
        environ=environ,
        started_at_s=started_at_s,
        duration_s=duration_s,
        aborted=aborted,
    )
    line, careful = json_line(event), careful_json_line(event)
    assert list(json.loads(line).items()) == list(json.loads(careful).items())
    assert line.count("\n") == careful.count("\n") == 1
    assert line.isascii()


@given(unix_time)
def test_milliseconds_of_a_json_line_are_rounded(started_at_s: float) -> None:
    shown = json.loads(json_line(finished(started_at_s=started_at_s)))["time"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", shown)
    difference_s = datetime.datetime.fromisoformat(shown).timestamp() - started_at_s
    assert abs(difference_s) < 0.000502


def test_json_line_of_a_time_just_before_a_second_is_of_that_second() -> None:
    shown = json.loads(json_line(finished(started_at_s=1789999999.9996)))["time"]
    assert shown == "2026-09-21T14:13:20.000Z"


@pytest.mark.parametrize(("on_terminal", "first"), [(True, "1"), (False, "{")])
def test_auto_is_combined_on_a_terminal_and_json_elsewhere(on_terminal: bool, first: str) -> None:
    assert compile_format("auto", on_terminal=on_terminal)(finished())[0] == first


def gunicorn_line(access_log_format: str, event: RequestFinished) -> str:
    """Return what Gunicorn's own formatter makes of the same request."""
    request = event.request
    assert request is not None
    environ: dict[str, Any] = {
        "REMOTE_ADDR": event.peer,
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.target,
        "SERVER_PROTOCOL": request.version,
        "PATH_INFO": "/books/caf\xc3\xa9",
        "QUERY_STRING": request.query,
        "wsgi.url_scheme": "https",
    }
    for name, value in request.headers.items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    response = SimpleNamespace(
        status=f"{event.status} OK", sent=event.sent_bytes, headers=event.headers
    )
    gunicorn = Logger.__new__(Logger)  # its constructor configures logging
    atoms = gunicorn.atoms(
        response,
        list(request.headers.items()),
        environ,
        datetime.timedelta(seconds=event.duration_s),
    )
    return str(access_log_format % SafeAtoms(atoms))


@pytest.mark.parametrize("access_log_format", [COMBINED.replace("%(t)s ", ""), ALL])
@pytest.mark.parametrize(
    "event",
    [
        finished(),
        finished(status=404, sent_bytes=0, duration_s=0.000123),
        finished(request=head(headers={"authorization": "Basic YWRhOnNlY3JldA=="})),
        finished(request=head(headers={"user-agent": 'the "best" browser'})),
    ],
)
def test_line_is_that_of_gunicorn(access_log_format: str, event: RequestFinished) -> None:
    ours = render(access_log_format, event)
    # The one difference: bytes that Gunicorn writes raw.
    assert ours.replace(r"\xc3\xa9", "\xc3\xa9") == gunicorn_line(access_log_format, event)


@given(st.integers(min_value=0, max_value=86_399_999_999))
def test_durations_are_those_of_gunicorn(duration_us: int) -> None:
    event = finished(duration_s=duration_us / 1_000_000)
    durations = "%(T)s %(D)s %(M)s %(L)s"
    assert render(durations, event) == gunicorn_line(durations, event)


@pytest.mark.parametrize("access_log_format", ["combined", "json"])
def test_line_takes_few_calls(access_log_format: str) -> None:
    lines: list[str] = []
    observe, event = compile_observer(access_log_format, lines.append), finished()
    observe(event)  # the second's text is made by the first line of a second
    calls: list[object] = []

    def count(_frame: object, kind: str, argument: object) -> None:
        if kind in ("call", "c_call"):
            calls.append(argument)

    previous = sys.getprofile()
    sys.setprofile(count)
    observe(event)
    sys.setprofile(previous)
    assert len(calls) <= 3


def test_compiling_leaves_logging_alone() -> None:
    handlers = list(logging.root.handlers)
    compile_format("combined")(finished())
    assert logging.root.handlers == handlers
