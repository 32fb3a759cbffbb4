"""What an application may do under PEP 3333, and what it must not get away with."""

from __future__ import annotations

import pytest

from tests.integration.running_server import RunningServer
from tests.integration.wire import Breakage, BrokenAnswer


def test_a_view_that_raises_gets_a_500_without_its_text(site: RunningServer) -> None:
    with site.connect() as wire:
        answer = wire.request("GET", "/raise?one")
        assert answer.status == 500
        assert b"secret-in-the-traceback" not in answer.body
        assert wire.request("GET", "/hello").status == 200
    site.access.wait_for(r"/raise\?one.* 500 ")


def test_an_application_that_raises_gets_a_500_and_its_traceback_is_logged(
    site: RunningServer,
) -> None:
    with site.connect() as wire:
        answer = wire.request("GET", "/raw/raise?two")
        assert answer.status == 500
        assert b"secret-in-the-callable" not in answer.body
        assert answer.headers["connection"] == "close"
    site.log.wait_for(r"/raw/raise\?two")
    site.log.wait_for(r"raw\.py.*\n(.*\n)*.*secret-in-the-callable")


def test_an_application_under_wsgirefs_validator_is_satisfied(site: RunningServer) -> None:
    with site.connect() as wire:
        assert wire.request("GET", "/raw/checked?a=b").body == b"0 bytes"
        assert wire.request("POST", "/raw/checked", body=b"x" * 10_000).body == b"10000 bytes"
        wire.send(
            b"POST /raw/checked HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nabcde\r\n0\r\n\r\n"
        )
        assert wire.receive().body == b"5 bytes"


def test_write_comes_before_the_iterable(site: RunningServer) -> None:
    assert site.get("/raw/write").body == b"written, twice, and returned"


def test_a_header_with_a_line_break_never_leaves_the_server(site: RunningServer) -> None:
    answer = site.get("/raw/header-break")
    assert answer.status == 500
    assert "x-smuggled" not in answer.headers
    assert b"never to be seen" not in answer.body
    site.log.wait_for("(?i)x-broken")


def test_a_head_not_yet_sent_may_be_replaced(site: RunningServer) -> None:
    answer = site.get("/raw/changed-mind")
    assert answer.status == 503
    assert answer.body == b"changed my mind"


def test_an_iterable_is_closed_after_its_last_part(site: RunningServer) -> None:
    assert site.get("/raw/whole?w1").body == b"first part, second part"
    assert b"w1" in site.get("/raw/closings").body.split()


def test_a_response_that_breaks_off_is_not_made_to_look_whole(site: RunningServer) -> None:
    with site.connect() as wire, pytest.raises(BrokenAnswer) as broken:
        wire.request("GET", "/raw/midway?m1")
    assert broken.value.breakage in {Breakage.SHORT, Breakage.RESET}
    assert b"secret-in-the-middle" not in broken.value.received
    assert b"m1" in site.get("/raw/closings").body.split()
    site.log.wait_for("secret-in-the-middle")


def test_a_response_shorter_than_announced_closes_the_connection_and_is_logged(
    site: RunningServer,
) -> None:
    with site.connect() as wire, pytest.raises(BrokenAnswer) as broken:
        wire.request("GET", "/raw/short?s1")
    assert broken.value.breakage is Breakage.SHORT
    site.log.wait_for(r"(?i)content-length.*/raw/short\?s1")


def test_a_whole_body_shorter_than_announced_is_a_500(site: RunningServer) -> None:
    with site.connect() as wire:
        assert wire.request("GET", "/short?s2").status == 500
    site.log.wait_for(r"(?i)content-length.*/short\?s2")


def test_an_application_that_forgets_start_response_gets_a_500(site: RunningServer) -> None:
    answer = site.get("/raw/silent")
    assert answer.status == 500
    assert b"text without a head" not in answer.body
    site.log.wait_for("start_response")


def test_system_exit_in_a_request_is_a_500_and_not_the_end(site: RunningServer) -> None:
    pid = site.whoami()["pid"]
    assert site.get("/raw/system-exit").status == 500
    assert site.whoami()["pid"] == pid


def test_a_file_wrapper_sends_from_where_the_file_stands(site: RunningServer) -> None:
    data = (site.project.directory / "download.bin").read_bytes()
    with site.connect() as wire:
        assert wire.request("GET", "/raw/file-wrapper").body == data[1000:]
        assert wire.request("GET", "/hello").status == 200
    assert site.get("/raw/file-wrapper").body == data[1000:]


def test_a_file_that_was_sent_is_closed(site: RunningServer) -> None:
    for _ in range(3):
        site.get("/raw/file-wrapper")
        site.get("/download")
    assert b"download.bin" not in site.get("/raw/open-files").body
