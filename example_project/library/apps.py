"""The library as a Django app."""

from __future__ import annotations

from django.apps import AppConfig


class LibraryConfig(AppConfig):
    """Books, copies and loans."""

    name = "example_project.library"
    verbose_name = "Library"
