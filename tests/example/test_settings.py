"""The database is the one that the environment names."""

from __future__ import annotations

import io

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command

from example_project.library.models import Book, Loan
from example_project.settings import postgresql_from_url


def test_every_part_of_a_database_url_is_understood() -> None:
    database = postgresql_from_url(
        "postgresql://li%40b:p%2Fw@db.example:5433/books?sslmode=require"
    )

    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert [database[key] for key in ("USER", "PASSWORD", "HOST", "PORT", "NAME")] == [
        "li@b",
        "p/w",
        "db.example",
        "5433",
        "books",
    ]
    assert database["OPTIONS"] == {"sslmode": "require"}


def test_a_database_url_may_name_the_directory_of_a_unix_socket() -> None:
    database = postgresql_from_url("postgres:///books?host=/run/postgresql")

    assert (database["HOST"], database["NAME"]) == ("/run/postgresql", "books")
    assert database["OPTIONS"] == {}


def test_a_database_url_of_another_database_is_refused() -> None:
    with pytest.raises(ValueError, match="must begin with postgresql://, not 'mysql'"):
        postgresql_from_url("mysql://host/books")


@pytest.mark.django_db
def test_opening_the_library_again_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Book.objects.filter(title="Emma").update(title="Emma, revised")
    number = Book.objects.count()

    call_command("open_library")

    assert Book.objects.filter(title="Emma, revised").count() == 1
    assert capsys.readouterr().out == f"The library is open: {number} books.\n"


@pytest.mark.django_db
def test_opening_an_empty_library_fills_it() -> None:
    Loan.objects.all().delete()
    Book.objects.all().delete()

    call_command("open_library", stdout=io.StringIO())

    assert Book.objects.count() > 50
    assert set(User.objects.values_list("username", flat=True)) == {"librarian", "reader"}
