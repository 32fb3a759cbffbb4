"""A library that is open: tables, books and two people."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.test import Client
from pytest_django import DjangoDbBlocker


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Put the tests' SQLite database into a file: one in memory can not be closed."""
    database = connections["default"].settings_dict
    if database["ENGINE"] == "django.db.backends.sqlite3":
        database["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Load the fixtures once, behind every test's transaction."""
    with django_db_blocker.unblock():
        call_command("loaddata", "people", "catalogue", verbosity=0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Leave no connection open to the next test, which may be one that must not use any.

    At the start of a real request Django looks after connections that are open, and
    pytest-django would refuse that where a test is not marked for it.
    """
    yield
    connections.close_all()


@pytest.fixture
def reader(db: None) -> User:
    """Return the reader of the fixtures."""
    return User.objects.get(username="reader")


@pytest.fixture
def reading_client(client: Client, reader: User) -> Client:
    """Return a client in which the reader is logged in."""
    client.force_login(reader)
    return client
