"""Large bodies, both ways: whole, or known to be not."""

from __future__ import annotations

import hashlib
import json
import threading

from tests.integration.conftest import RunServer
from tests.integration.processes import peak_resident_bytes
from tests.integration.running_server import RunningServer
from tests.integration.wire import Wire

MIB = 1024 * 1024
BLOCK = bytes(range(256)) * 256  # 64 KiB


def upload(wire: Wire, blocks: int, path: str = "/echo") -> tuple[str, int]:
    """Send that many blocks of 64 KiB; return what the server says came."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {blocks * len(BLOCK)}\r\n"
    wire.send(head.encode() + b"\r\n")
    for _ in range(blocks):
        wire.send(BLOCK)
    reported = json.loads(wire.receive().body)
    return reported["sha256"], reported["bytes"]


def test_a_large_upload_arrives_whole_and_not_in_memory(run_server: RunServer) -> None:
    server = run_server("-w", "1")
    pid = server.whoami()["pid"]
    before = peak_resident_bytes(pid)
    blocks = 100 * MIB // len(BLOCK)
    with server.connect() as wire:
        assert upload(wire, blocks) == (hashlib.sha256(BLOCK * blocks).hexdigest(), 100 * MIB)
    assert peak_resident_bytes(pid) - before < 30 * MIB


def test_uploads_at_the_same_time_are_not_mixed_up(site: RunningServer) -> None:
    results: dict[int, tuple[str, int]] = {}

    def run(blocks: int) -> None:
        with site.connect() as wire:
            results[blocks] = upload(wire, blocks)

    threads = [threading.Thread(target=run, args=(blocks,)) for blocks in range(1, 41, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {
        blocks: (hashlib.sha256(BLOCK * blocks).hexdigest(), blocks * len(BLOCK))
        for blocks in range(1, 41, 8)
    }


def test_a_download_is_the_file(site: RunningServer) -> None:
    data = (site.project.directory / "download.bin").read_bytes()
    with site.connect() as wire:
        answer = wire.request("GET", "/download")
        assert answer.headers["content-length"] == str(len(data))
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(data).digest()
        assert wire.request("HEAD", "/download").headers["content-length"] == str(len(data))
        assert wire.request("GET", "/hello?token=t").body.startswith(b"t ")


def test_downloads_as_fast_as_they_can_be_sent_all_come_to_their_end(
    site: RunningServer,
) -> None:
    size = (site.project.directory / "download.bin").stat().st_size
    for _ in range(60):
        with site.connect() as wire:
            assert len(wire.request("GET", "/download").body) == size


def test_a_large_response_in_memory_arrives_whole(site: RunningServer) -> None:
    answer = site.get(f"/large?bytes={20 * MIB}")
    assert answer.body == b"x" * (20 * MIB)


def test_a_client_that_leaves_within_its_upload_is_logged_and_never_reaches_the_view(
    site: RunningServer,
) -> None:
    before = int(site.get("/raw/count").body)
    with site.connect() as wire:
        wire.send(
            b"POST /echo?left-upload HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 1000000\r\n\r\n" + b"x" * 1000
        )
        wire.reset()
    assert " 499 " in site.access.wait_for("left-upload.*\n")
    assert int(site.get("/raw/count").body) == before + 1


def test_a_client_that_leaves_within_its_download_is_logged(site: RunningServer) -> None:
    with site.connect() as wire:
        wire.send(b"GET /large?bytes=60000000&left-download HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wire.socket.recv(1000)
        wire.reset()
    site.access.wait_for("left-download.*\n")
    assert site.get("/hello").status == 200


def test_a_client_that_leaves_a_stream_ends_it(site: RunningServer) -> None:
    with site.connect() as wire:
        wire.send(b"GET /raw/endless?left-stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wire.socket.recv(1000)
        wire.reset()
    site.access.wait_for("left-stream.*\n")
    assert site.get("/hello").status == 200


def test_a_client_that_closed_its_sending_side_still_gets_its_answer(
    site: RunningServer,
) -> None:
    with site.connect() as wire:
        wire.send(b"GET /hello?token=half HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wire.socket.shutdown(1)
        assert wire.receive().body.startswith(b"half ")
        assert wire.is_closed_by_server
