"""Views that need the database."""

from __future__ import annotations

import os

from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse

from notes.models import Note


def note_list(request: HttpRequest) -> HttpResponse:
    """Store a note when one is posted, and answer with all of them."""
    if request.method == "POST":
        Note.objects.create(text=request.read().decode())
    texts = list(Note.objects.order_by("pk").values_list("text", flat=True))
    return JsonResponse({"notes": texts, "pid": os.getpid()})


def backend(request: HttpRequest) -> HttpResponse:
    """Which database session (PostgreSQL's process) answers this worker."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (backend_pid,) = cursor.fetchone()
    return JsonResponse({"backend": backend_pid, "pid": os.getpid()})
