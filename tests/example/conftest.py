"""A library that is open: tables, books and two people."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from pytest_django import DjangoDbBlocker


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Load the fixtures once, behind every test's transaction."""
    with django_db_blocker.unblock():
        call_command("loaddata", "people", "catalogue", verbosity=0)


@pytest.fixture
def reader(db: None) -> User:
    """Return the reader of the fixtures."""
    return User.objects.get(username="reader")


@pytest.fixture
def reading_client(client: Client, reader: User) -> Client:
    """Return a client in which the reader is logged in."""
    client.force_login(reader)
    return client
