"""Readers find, borrow and bring back books."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.db import IntegrityError, transaction
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from example_project.library.models import Book, Copy, Loan

pytestmark = pytest.mark.django_db


def test_home_page_shows_the_figures_of_the_library(client: Client) -> None:
    response = client.get("/")

    assert response.status_code == 200
    assert f"<dd>{Book.objects.count()}</dd>" in response.text
    assert "library/library.css" in response.text


def test_search_finds_a_book_by_its_author_and_nothing_else(client: Client) -> None:
    page = client.get("/books/", {"q": "austen"}).text

    assert "Emma" in page
    assert "Moby-Dick" not in page


def test_a_page_past_the_last_one_is_the_last_one(client: Client) -> None:
    response = client.get("/books/", {"page": "999"})

    assert response.status_code == 200
    assert "Page 5 of 5" in response.text


def test_a_missing_book_is_not_found(client: Client) -> None:
    response = client.get("/books/999999/")

    assert response.status_code == 404
    assert "No such page" in response.text


def test_json_names_the_authors_and_the_absolute_address_of_each_book(client: Client) -> None:
    answer = client.get("/api/books/", {"q": "Household"}).json()

    assert answer["count"] == 1
    (book,) = answer["books"]
    assert book["authors"] == ["Jacob Grimm", "Wilhelm Grimm"]
    assert book["url"] == f"http://testserver/books/{book['id']}/"


def test_a_year_before_christ_is_written_as_people_write_it(client: Client) -> None:
    assert "700 BC" in client.get("/books/", {"q": "Odyssey"}).text


def test_the_database_page_needs_the_same_queries_for_many_books_as_for_one(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for words in ("", "Emma"):
        with django_assert_num_queries(3):
            client.get("/books/", {"q": words})


def test_borrowing_takes_a_copy_off_the_shelf_until_it_is_brought_back(
    reading_client: Client, reader: User
) -> None:
    book = Book.objects.get(title="Emma")
    before = book.copies_on_the_shelf().count()

    response = reading_client.post(f"/books/{book.pk}/borrow/")

    assert response.url == "/loans/"  # type: ignore[attr-defined]
    assert book.copies_on_the_shelf().count() == before - 1
    loan = Loan.objects.get(borrower=reader, copy__book=book)
    assert "Emma" in reading_client.get("/loans/").text

    reading_client.post(f"/loans/{loan.pk}/return/")

    assert book.copies_on_the_shelf().count() == before


def test_a_book_whose_copies_are_all_lent_is_not_lent_again(
    reading_client: Client, reader: User
) -> None:
    book = Book.objects.get(title="Emma")
    lent = [Loan.objects.create(copy=copy, borrower=reader) for copy in book.copies_on_the_shelf()]

    response = reading_client.post(f"/books/{book.pk}/borrow/")

    assert [str(message) for message in get_messages(response.wsgi_request)] == [
        "Every copy of Emma is on loan."
    ]
    assert Loan.objects.filter(copy__book=book).count() == len(lent)
    assert "Every copy is on loan" in reading_client.get(f"/books/{book.pk}/").text


def test_the_database_refuses_a_second_open_loan_of_a_copy(reader: User) -> None:
    copy = Copy.objects.filter(loans=None)[0]
    Loan.objects.create(copy=copy, borrower=reader)

    with pytest.raises(IntegrityError), transaction.atomic():
        Loan.objects.create(copy=copy, borrower=reader)


def test_somebody_elses_loan_can_not_be_brought_back(client: Client) -> None:
    loan = Loan.objects.filter(returned_on=None)[0]
    client.force_login(User.objects.get(username="librarian"))

    assert client.post(f"/loans/{loan.pk}/return/").status_code == 404
    loan.refresh_from_db()
    assert loan.returned_on is None


def test_loans_are_shown_only_after_a_login(client: Client) -> None:
    assert client.get("/loans/").url == "/login/?next=/loans/"  # type: ignore[attr-defined]

    response = client.post("/login/?next=/loans/", {"username": "reader", "password": "reader"})

    assert response.url == "/loans/"  # type: ignore[attr-defined]
    assert "Log out reader" in client.get("/loans/").text


def test_a_wrong_password_is_told_and_logs_nobody_in(client: Client) -> None:
    response = client.post("/login/", {"username": "reader", "password": "wrong"})

    assert response.status_code == 200
    assert "errorlist" in response.text
    assert "_auth_user_id" not in client.session


def test_logging_out_forgets_who_it_was(reading_client: Client) -> None:
    reading_client.post("/logout/")

    assert "Log in" in reading_client.get("/").text


@pytest.mark.parametrize("page", ["author", "book", "copy", "loan"])
def test_every_list_of_the_counter_opens_for_the_librarian(client: Client, page: str) -> None:
    client.force_login(User.objects.get(username="librarian"))

    response = client.get(f"/admin/library/{page}/")

    assert response.status_code == 200
    assert "result_list" in response.text


def test_the_counter_is_closed_to_readers(reading_client: Client) -> None:
    assert reading_client.get("/admin/").status_code == 302


def test_the_librarian_marks_loans_returned_in_one_action(client: Client) -> None:
    client.force_login(User.objects.get(username="librarian"))
    loans = list(Loan.objects.filter(returned_on=None))

    client.post(
        "/admin/library/loan/",
        {"action": "mark_returned", "_selected_action": [loan.pk for loan in loans]},
    )

    assert loans
    assert not Loan.objects.filter(returned_on=None).exists()
