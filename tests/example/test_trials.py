"""The pages that behave badly do so as described, and the others say who answered."""

from __future__ import annotations

import os
import time

import pytest
from django.test import Client

from example_project.library.views.trials import ShelfCollapsed


def test_fast_page_is_rendered_without_a_database(client: Client) -> None:
    # No `django_db` mark: a query would fail this test.
    response = client.get("/fast/")

    assert response.status_code == 200
    assert "/fast/, release 1" in response.text
    assert "sessionid" not in response.cookies


def test_raise_is_not_caught_by_the_view(client: Client) -> None:
    with pytest.raises(ShelfCollapsed, match=r"asked for it with GET /raise/\?why=not"):
        client.get("/raise/?why=not")


def test_raise_is_a_500_page_to_the_reader_and_tells_no_details(client: Client) -> None:
    client.raise_request_exception = False

    response = client.get("/raise/")

    assert response.status_code == 500
    assert "Something broke" in response.text
    assert "ShelfCollapsed" not in response.text


def test_burn_uses_the_processor_it_was_told_to_use(client: Client) -> None:
    before_s = time.thread_time()

    response = client.get("/burn/?seconds=0.02")

    assert response.status_code == 200
    assert time.thread_time() - before_s >= 0.02


def test_slow_page_says_how_long_it_waited(client: Client) -> None:
    assert client.get("/slow/?seconds=0").text == "waited 0 s\n"


@pytest.mark.parametrize("page", ["slow", "burn"])
def test_pages_that_take_time_refuse_to_take_forever(client: Client, page: str) -> None:
    assert client.get(f"/{page}/?seconds=1e6").status_code == 400


def test_whoami_shows_the_request_and_nothing_of_the_environment_variables(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY_PASSWORD_FOR_THIS_TEST", "secret")

    response = client.get("/whoami/?a=1", headers={"x-test": "yes"})

    answer = response.json()
    assert answer["pid"] == os.getpid()
    assert answer["meta"]["QUERY_STRING"] == "a=1"
    assert answer["meta"]["HTTP_X_TEST"] == "yes"
    assert answer["wsgi"]["url_scheme"] == "http"
    assert "secret" not in response.text


def test_version_names_the_release_that_was_imported(client: Client) -> None:
    assert client.get("/version/").json()["release"] == "1"
