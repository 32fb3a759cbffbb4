"""What the application learns of a request."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsgiserve.protocol.grammar import parse_head
from django_wsgiserve.protocol.messages import Limits
from django_wsgiserve.wsgi.body import EMPTY_BODY
from django_wsgiserve.wsgi.file_wrapper import FileWrapper
from tests.wsgi.serving import factory, head

PEER = ("192.0.2.1", "50000")


def build(
    method: str = "GET",
    target: str = "/",
    *fields: str,
    body_bytes: int = 0,
    version: str = "1.1",
    **options: Any,
) -> dict[str, Any]:
    request = head(method, target, *fields, version=version)
    return factory(**options).build(request, PEER, EMPTY_BODY, body_bytes)


def test_request_line_and_addresses_are_told_in_cgi_names() -> None:
    environ = build("GET", "/a/b?q=1&r=%20")
    expected = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/a/b",
        "QUERY_STRING": "q=1&r=%20",
        "RAW_URI": "/a/b?q=1&r=%20",
        "REQUEST_URI": "/a/b?q=1&r=%20",
        "SCRIPT_NAME": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "50000",
        "HTTP_HOST": "example.org",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": EMPTY_BODY,
        "wsgi.input_terminated": True,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    assert {key: environ.get(key) for key in expected} == expected


def test_threads_and_processes_are_told_as_the_worker_has_them() -> None:
    environ = build(multithread=True, multiprocess=False)
    assert environ["wsgi.multithread"] is True
    assert environ["wsgi.multiprocess"] is False


def test_old_protocol_version_is_told() -> None:
    assert build(version="1.0")["SERVER_PROTOCOL"] == "HTTP/1.0"


def test_port_is_a_str_even_if_given_as_a_number() -> None:
    assert build(server_port=8000)["SERVER_PORT"] == "8000"


def test_environs_of_two_requests_share_nothing_that_changes() -> None:
    made = factory()
    first = made.build(head("GET", "/", "X-Only: first"), PEER, EMPTY_BODY, 0)
    first["wsgi.url_scheme"] = "https"
    second = made.build(head(), PEER, EMPTY_BODY, 0)
    assert "HTTP_X_ONLY" not in second
    assert second["wsgi.url_scheme"] == "http"


def test_headers_get_the_http_prefix_and_keep_latin_1_values() -> None:
    environ = build("GET", "/", "Accept: text/html", "X-Name: J\xf6rg")
    assert environ["HTTP_ACCEPT"] == "text/html"
    assert environ["HTTP_X_NAME"] == "J\xf6rg"


def test_content_type_has_no_prefix() -> None:
    environ = build("POST", "/", "Content-Type: text/plain", "Content-Length: 3", body_bytes=3)
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert environ["CONTENT_LENGTH"] == "3"
    assert "HTTP_CONTENT_TYPE" not in environ
    assert "HTTP_CONTENT_LENGTH" not in environ


def test_name_with_an_underscore_cannot_forge_a_header() -> None:
    environ = build("GET", "/", "X_Forwarded_For: 127.0.0.1", "X-Real_IP: 127.0.0.1")
    assert not [key for key in environ if "FORWARDED" in key or "REAL" in key]


def test_name_with_an_underscore_does_not_displace_the_real_header() -> None:
    environ = build("GET", "/", "X-Forwarded-For: 192.0.2.7", "X_Forwarded_For: 127.0.0.1")
    assert environ["HTTP_X_FORWARDED_FOR"] == "192.0.2.7"


def test_proxy_header_does_not_become_a_proxy_setting() -> None:
    assert "HTTP_PROXY" not in build("GET", "/", "Proxy: http://evil.example")


def test_chunked_body_is_told_as_one_of_known_length() -> None:
    environ = build("POST", "/", "Transfer-Encoding: chunked", body_bytes=11)
    assert environ["CONTENT_LENGTH"] == "11"
    assert "HTTP_TRANSFER_ENCODING" not in environ


def test_empty_chunked_body_has_a_length_of_zero() -> None:
    assert build("POST", "/", "Transfer-Encoding: chunked")["CONTENT_LENGTH"] == "0"


def test_announced_empty_body_has_a_length_of_zero() -> None:
    assert build("POST", "/", "Content-Length: 0")["CONTENT_LENGTH"] == "0"


def test_request_without_a_body_has_no_length() -> None:
    assert "CONTENT_LENGTH" not in build()


def test_host_of_an_absolute_target_wins_over_the_header() -> None:
    environ = build("GET", "http://other.example/x?y")
    assert environ["HTTP_HOST"] == "other.example"
    assert environ["PATH_INFO"] == "/x"
    assert environ["RAW_URI"] == "http://other.example/x?y"


def test_old_request_without_a_host_has_none() -> None:
    request = parse_head(b"GET / HTTP/1.0", Limits())
    assert "HTTP_HOST" not in factory().build(request, PEER, EMPTY_BODY, 0)


@pytest.mark.parametrize(
    ("target", "path_info"),
    [
        ("/caf%C3%A9", "/caf\xc3\xa9"),
        ("/%ff", "/\xff"),
        ("/a%2Fb", "/a/b"),
        ("/100%", "/100%"),
        ("/%zz", "/%zz"),
        ("/a+b", "/a+b"),
        ("//x", "//x"),
    ],
)
def test_path_is_decoded_to_one_character_per_byte(target: str, path_info: str) -> None:
    assert build("GET", target)["PATH_INFO"] == path_info


@given(st.binary())
def test_any_bytes_survive_the_path(raw: bytes) -> None:
    target = "/" + "".join(f"%{byte:02X}" for byte in raw)
    assert build("GET", target)["PATH_INFO"].encode("latin-1") == b"/" + raw


def test_asterisk_form_has_an_empty_path() -> None:
    environ = build("OPTIONS", "*")
    assert environ["PATH_INFO"] == ""
    assert environ["RAW_URI"] == "*"


@pytest.mark.parametrize(
    ("target", "script_name", "path_info"),
    [
        ("/shop/cart", "/shop", "/cart"),
        ("/shop/", "/shop", "/"),
        ("/shop", "/shop", ""),
        ("/%73hop/cart", "/shop", "/cart"),
        ("/shop/a%2Fb", "/shop", "/a/b"),
        ("/shopping", "", "/shopping"),
        ("/shop%2Fcart", "", "/shop/cart"),
        ("/", "", "/"),
        ("/other/shop", "", "/other/shop"),
    ],
)
def test_mount_point_is_cut_between_segments(target: str, script_name: str, path_info: str) -> None:
    environ = build("GET", target, script_name="/shop")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)


def test_mount_point_may_be_deep_and_not_ascii() -> None:
    environ = build("GET", "/caf%C3%A9/shop/x", script_name="/caf\xe9/shop/")
    assert environ["SCRIPT_NAME"] == "/caf\xc3\xa9/shop"
    assert environ["PATH_INFO"] == "/x"


def test_asterisk_form_is_under_no_mount_point() -> None:
    environ = build("OPTIONS", "*", script_name="/shop")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "")


def test_slash_as_mount_point_means_the_root() -> None:
    environ = build("GET", "/x", script_name="/")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/x")


def test_invented_header_names_do_not_fill_the_memory() -> None:
    made = factory()
    for number in range(3000):
        made.build(head("GET", "/", f"X-{number}: 1"), PEER, EMPTY_BODY, 0)
    long_name = "X-" + "a" * 1000
    environ = made.build(
        head("GET", "/", "X-Known-Late: 1", f"{long_name}: 1"), PEER, EMPTY_BODY, 0
    )
    assert environ["HTTP_X_KNOWN_LATE"] == "1"
    assert environ["HTTP_" + long_name.upper().replace("-", "_")] == "1"
    assert len(made._keys) <= 512
    assert max(map(len, made._keys)) <= 64


def test_errors_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    errors = build()["wsgi.errors"]
    assert errors.write("one\n") == 4
    errors.writelines(["two\n", "three\n"])
    print("four", file=errors, flush=True)
    assert capsys.readouterr().err == "one\ntwo\nthree\nfour\n"


def test_errors_stay_open_for_the_next_request(capsys: pytest.CaptureFixture[str]) -> None:
    made = factory()
    made.build(head(), PEER, EMPTY_BODY, 0)["wsgi.errors"].close()
    errors = made.build(head(), PEER, EMPTY_BODY, 0)["wsgi.errors"]
    assert errors.writable()
    errors.write("still here")
    assert capsys.readouterr().err == "still here"


class BrokenPipe(io.StringIO):
    """A stderr whose reader is gone."""

    def write(self, text: str) -> int:
        """Fail."""
        raise BrokenPipeError(f"{len(text)} characters not written")

    def flush(self) -> None:
        """Fail."""
        raise BrokenPipeError


def closed_stream() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stderr", [BrokenPipe(), closed_stream(), None])
def test_broken_stderr_fails_no_request(
    stderr: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = build()["wsgi.errors"]
    monkeypatch.setattr(sys, "stderr", stderr)
    assert errors.write("lost") == 4
    errors.flush()


def test_environ_of_a_small_get_takes_few_calls() -> None:
    made = factory()
    fields = [f"X-Field-{number}: value" for number in range(3)]
    small = head("GET", "/", *fields)
    large = head("GET", "/", *fields, *[f"X-More-{number}: value" for number in range(9)])
    assert count_calls(made, small) == 1
    assert count_calls(made, large) == count_calls(made, small)


def count_calls(made: Any, request: Any) -> int:
    """Return how many calls, of Python and C functions, a second `build` makes."""
    made.build(request, PEER, EMPTY_BODY, 0)
    calls: list[str] = []
    outer = sys.getprofile()
    sys.setprofile(lambda _frame, event, _arg: calls.append(event))
    try:
        made.build(request, PEER, EMPTY_BODY, 0)
    finally:
        sys.setprofile(outer)
    return sum(event in {"call", "c_call"} for event in calls) - 1  # that of setprofile itself
