"""The librarians' side of the counter."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from example_project.library.models import Author, Book, Copy, Loan

admin.site.site_header = "Library administration"
admin.site.site_title = "Library"
admin.site.index_title = "At the counter"


class CopyInline(admin.TabularInline):
    """The copies of a book, on the book's page."""

    model = Copy
    extra = 0


@admin.register(Author)
class AuthorAdmin(admin.ModelAdmin):
    """Authors, with how many titles the library has of each."""

    list_display = ("name", "born", "died", "number_of_books")
    search_fields = ("name", "sort_name")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Author]:
        """Return the authors with their number of books."""
        authors: QuerySet[Author] = super().get_queryset(request)
        return authors.annotate(book_count=Count("books"))

    @admin.display(description="books", ordering="book_count")
    def number_of_books(self, author: Author) -> int:
        """Return the annotation of `get_queryset`."""
        return int(getattr(author, "book_count", 0))


@admin.register(Book)
class BookAdmin(admin.ModelAdmin):
    """The catalogue."""

    list_display = ("title", "author_names", "year", "subject", "shelfmark")
    list_filter = ("subject",)
    search_fields = ("title", "authors__name", "shelfmark")
    autocomplete_fields = ("authors",)
    inlines = (CopyInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Book]:
        """Return the books with their authors: two queries a page, not one a row."""
        books: QuerySet[Book] = super().get_queryset(request)
        return books.prefetch_related("authors")

    @admin.display(description="authors")
    def author_names(self, book: Book) -> str:
        """Return the names as they are printed on a spine."""
        return ", ".join(author.name for author in book.authors.all())


@admin.register(Copy)
class CopyAdmin(admin.ModelAdmin):
    """The volumes on the shelves."""

    list_display = ("barcode", "book", "acquired_on")
    list_select_related = ("book",)
    search_fields = ("barcode", "book__title")
    autocomplete_fields = ("book",)


@admin.register(Loan)
class LoanAdmin(admin.ModelAdmin):
    """What is out, to whom, and until when."""

    list_display = ("copy", "borrower", "borrowed_on", "due_on", "returned_on", "overdue")
    list_filter = ("returned_on", "due_on")
    list_select_related = ("copy__book", "borrower")
    date_hierarchy = "borrowed_on"
    autocomplete_fields = ("copy", "borrower")
    actions = ("mark_returned",)

    @admin.display(boolean=True)
    def overdue(self, loan: Loan) -> bool:
        """Whether a reminder is due."""
        return loan.is_overdue

    @admin.action(description="Mark selected loans as returned today")
    def mark_returned(self, request: HttpRequest, loans: QuerySet[Loan]) -> None:
        """Close the loans that are still open and say how many those were."""
        number = loans.filter(returned_on__isnull=True).update(returned_on=timezone.localdate())
        self.message_user(request, f"{number} returned.")
