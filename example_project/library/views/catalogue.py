"""What readers see: books, and their own loans."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.paginator import Page, Paginator
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from example_project.library.models import Author, Book, Copy, Loan

BOOKS_PER_PAGE = 12


class MemberRequest(HttpRequest):
    """A request whose user `login_required` has seen; for the type checker only."""

    user: User


def find_books(request: HttpRequest) -> tuple[str, Page[Book]]:
    """Return the words searched for (`?q=`) and the page (`?page=`) of books that have them.

    A page that does not exist is the nearest one that does.
    """
    words = request.GET.get("q", "").strip()
    books: QuerySet[Book] = Book.objects.prefetch_related("authors")
    if words:
        books = books.filter(
            Q(title__icontains=words)
            | Q(authors__name__icontains=words)
            | Q(subject__icontains=words)
        ).distinct()
    return words, Paginator(books, BOOKS_PER_PAGE).get_page(request.GET.get("page"))


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Show the library's door: its figures, subjects and newest volumes."""
    return render(
        request,
        "library/home.html",
        {
            "counts": {
                "books": Book.objects.count(),
                "authors": Author.objects.count(),
                "copies": Copy.objects.count(),
                "on loan": Loan.objects.filter(returned_on__isnull=True).count(),
            },
            "subjects": Book.objects.values("subject").annotate(n=Count("pk")).order_by("subject"),
            "newest": Book.objects.prefetch_related("authors").order_by("-year")[:6],
        },
    )


@require_GET
def books(request: HttpRequest) -> HttpResponse:
    """Show a page of the catalogue."""
    words, page = find_books(request)
    return render(request, "library/books.html", {"words": words, "page": page})


@require_GET
def books_json(request: HttpRequest) -> JsonResponse:
    """Return a page of the catalogue for programs."""
    _, page = find_books(request)
    return JsonResponse(
        {
            "count": page.paginator.count,
            "page": page.number,
            "pages": page.paginator.num_pages,
            "books": [
                {
                    "id": book.pk,
                    "title": book.title,
                    "authors": [author.name for author in book.authors.all()],
                    "year": book.year,
                    "subject": book.subject,
                    "shelfmark": book.shelfmark,
                    "url": request.build_absolute_uri(book.get_absolute_url()),
                }
                for book in page
            ],
        }
    )


@require_GET
def book(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one book, and whether a copy is on the shelf."""
    found = get_object_or_404(Book.objects.prefetch_related("authors"), pk=pk)
    return render(
        request,
        "library/book.html",
        {
            "book": found,
            "copies": found.copies.count(),
            "on_the_shelf": found.copies_on_the_shelf().count(),
        },
    )


@require_POST
@login_required
def borrow(request: MemberRequest, pk: int) -> HttpResponse:
    """Lend the first copy on the shelf to whoever is logged in."""
    found = get_object_or_404(Book, pk=pk)
    with transaction.atomic():
        copy = found.copies_on_the_shelf().select_for_update().first()
        if copy is not None:
            Loan.objects.create(copy=copy, borrower=request.user)
    if copy is None:
        messages.warning(request, f"Every copy of {found} is on loan.")
        return redirect(found)
    messages.success(request, f"{found} is yours for four weeks.")
    return redirect("loans")


@require_GET
@login_required
def loans(request: MemberRequest) -> HttpResponse:
    """Show what the reader has at home and has had."""
    mine = Loan.objects.filter(borrower=request.user).select_related("copy__book")
    return render(request, "library/loans.html", {"loans": mine})


@require_POST
@login_required
def give_back(request: MemberRequest, pk: int) -> HttpResponse:
    """Take a copy back; somebody else's loan is not found."""
    loan = get_object_or_404(Loan, pk=pk, borrower=request.user, returned_on__isnull=True)
    loan.returned_on = timezone.localdate()
    loan.save(update_fields=["returned_on"])
    messages.success(request, f"Thank you for bringing back {loan.copy.book}.")
    return redirect("loans")
