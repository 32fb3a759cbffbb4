"""What a library keeps track of."""

from __future__ import annotations

import datetime

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone

LOAN_PERIOD = datetime.timedelta(days=28)


class Author(models.Model):
    """Somebody who wrote a book."""

    name = models.CharField(max_length=200, help_text="As printed on the title page.")
    sort_name = models.CharField(max_length=200, help_text="Family name first: what lists sort by.")
    born = models.SmallIntegerField("year of birth", null=True, blank=True)
    died = models.SmallIntegerField("year of death", null=True, blank=True)

    class Meta:
        """Listed as in a card catalogue."""

        ordering = ("sort_name",)

    def __str__(self) -> str:
        return self.name


class Book(models.Model):
    """A title in the catalogue, of which the library may own several copies."""

    title = models.CharField(max_length=300)
    authors = models.ManyToManyField(Author, related_name="books")
    year = models.SmallIntegerField("first published", help_text="Negative: before Christ.")
    subject = models.CharField(max_length=60, db_index=True)
    shelfmark = models.CharField(max_length=30, help_text="Where it stands, such as 823.7 AUS.")
    summary = models.TextField(blank=True)

    class Meta:
        """Listed by title."""

        ordering = ("title",)

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        """Return the address of the book's own page."""
        return reverse("book", args=[self.pk])

    @property
    def published(self) -> str:
        """The year of first publication as people write it: `1813`, or `700 BC` for -700."""
        return str(self.year) if self.year > 0 else f"{-self.year} BC"

    def copies_on_the_shelf(self) -> models.QuerySet[Copy]:
        """Return the copies that nobody has at home, lowest barcode first."""
        lent = Loan.objects.filter(copy__book=self, returned_on__isnull=True)
        return self.copies.exclude(pk__in=lent.values("copy"))


class Copy(models.Model):
    """One physical volume."""

    book = models.ForeignKey(Book, on_delete=models.CASCADE, related_name="copies")
    barcode = models.CharField(max_length=12, unique=True)
    acquired_on = models.DateField()

    class Meta:
        """The plural needs help, the order does not."""

        ordering = ("barcode",)
        verbose_name_plural = "copies"

    def __str__(self) -> str:
        return f"{self.book} ({self.barcode})"


def due_date() -> datetime.date:
    """Return the day by which a copy that is borrowed today comes back."""
    return timezone.localdate() + LOAN_PERIOD


class Loan(models.Model):
    """A copy that somebody has, or had, at home."""

    copy = models.ForeignKey(Copy, on_delete=models.PROTECT, related_name="loans")
    borrower = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="loans"
    )
    borrowed_on = models.DateField(default=timezone.localdate)
    due_on = models.DateField(default=due_date)
    returned_on = models.DateField(null=True, blank=True)

    class Meta:
        """Newest first; the database itself refuses to lend a copy twice."""

        ordering = ("-borrowed_on", "-pk")
        constraints = (
            models.UniqueConstraint(
                fields=["copy"],
                condition=models.Q(returned_on__isnull=True),
                name="one_open_loan_per_copy",
            ),
        )

    def __str__(self) -> str:
        return f"{self.copy} to {self.borrower}"

    @property
    def is_overdue(self) -> bool:
        """Whether the copy should have come back before today."""
        return self.returned_on is None and self.due_on < timezone.localdate()
