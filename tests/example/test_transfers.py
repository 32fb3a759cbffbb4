"""What is uploaded is reported truthfully; what is downloaded is what was asked for."""

from __future__ import annotations

import hashlib
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import FileResponse, StreamingHttpResponse
from django.test import Client

SMALL = b"ex libris"
# More than FILE_UPLOAD_MAX_MEMORY_SIZE, so that Django itself spools it to a file.
LARGE = bytes(range(256)) * 12_000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_upload_reports_name_size_and_digest_of_every_file(client: Client) -> None:
    files = [SimpleUploadedFile("small.txt", SMALL), SimpleUploadedFile("large.bin", LARGE)]

    answer = client.post(
        "/upload/", {"files": files}, headers={"accept": "application/json"}
    ).json()

    assert answer["files"] == [
        {"field": "files", "name": "small.txt", "size": len(SMALL), "sha256": sha256(SMALL)},
        {"field": "files", "name": "large.bin", "size": len(LARGE), "sha256": sha256(LARGE)},
    ]


def test_upload_in_a_browser_shows_the_digest_on_the_page(client: Client) -> None:
    response = client.post("/upload/", {"files": SimpleUploadedFile("<b>.txt", SMALL)})

    assert sha256(SMALL) in response.text
    assert "&lt;b&gt;.txt" in response.text


def test_upload_form_without_its_token_is_refused() -> None:
    strict = Client(enforce_csrf_checks=True)

    assert strict.post("/upload/", {"files": SimpleUploadedFile("a", SMALL)}).status_code == 403


def test_upload_form_with_its_token_is_accepted() -> None:
    strict = Client(enforce_csrf_checks=True)
    page = strict.get("/upload/").text
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token is not None

    response = strict.post(
        "/upload/",
        {"csrfmiddlewaretoken": token[1], "files": SimpleUploadedFile("a", SMALL)},
    )

    assert sha256(SMALL) in response.text


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("body", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
def test_raw_upload_reports_the_digest_of_the_body(method: str, body: bytes) -> None:
    strict = Client(enforce_csrf_checks=True)

    answer = strict.generic(method, "/upload/raw/", body).json()

    assert (answer["method"], answer["size"], answer["sha256"]) == (
        method,
        len(body),
        sha256(body),
    )


def test_raw_upload_does_not_answer_a_get(client: Client) -> None:
    assert client.get("/upload/raw/").status_code == 405


@pytest.mark.parametrize(("n", "size"), [(0, 10), (1, 1), (7, 1), (3, 5000), (2000, 12)])
def test_stream_sends_as_many_chunks_of_as_many_bytes_as_asked(
    client: Client, n: int, size: int
) -> None:
    response = client.get("/stream/", {"n": n, "size": size})

    assert isinstance(response, StreamingHttpResponse)
    assert "Content-Length" not in response
    assert [len(chunk) for chunk in response] == [size] * n


@pytest.mark.parametrize("query", ["n=many", "n=-1", "size=nan", "size=1e9", "n=inf"])
def test_stream_refuses_a_number_that_makes_no_sense(client: Client, query: str) -> None:
    assert client.get(f"/stream/?{query}").status_code == 400


@pytest.mark.parametrize("size", [0, 1, 251, 300_000])
def test_download_is_a_file_of_exactly_the_size_asked_for(client: Client, size: int) -> None:
    response = client.get(f"/download/{size}/")

    assert isinstance(response, FileResponse)
    assert response["Content-Length"] == str(size)
    assert response["Content-Disposition"] == f'attachment; filename="{size}.bin"'
    content = response.getvalue()
    assert content == (bytes(range(251)) * (size // 251 + 1))[:size]


def test_download_refuses_more_than_a_gibibyte(client: Client) -> None:
    assert client.get(f"/download/{1024**3 + 1}/").status_code == 400
