"""Configuration of the notes app."""

from __future__ import annotations

from django.apps import AppConfig


class NotesConfig(AppConfig):
    """Notes: a table, so that the database is used."""

    name = "notes"
