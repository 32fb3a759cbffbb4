"""`manage.py open_library`: a database that has tables and books in it."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from example_project.library.models import Book


class Command(BaseCommand):
    """Migrates, and loads the fixtures into a catalogue that is still empty."""

    help = "Create the tables and, in an empty library, the books and two people. Repeatable."

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it; what readers and librarians have changed since is left alone."""
        call_command("migrate", interactive=False, verbosity=0)
        if not Book.objects.exists():
            call_command("loaddata", "people", "catalogue", verbosity=0)
        self.stdout.write(f"The library is open: {Book.objects.count()} books.")
