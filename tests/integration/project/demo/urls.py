"""Routes of the test project."""

from __future__ import annotations

from django.urls import path
from notes.views import backend, note_list

from demo import trouble, views

urlpatterns = [
    path("", views.home),
    path("hello", views.hello),
    path("whoami", views.whoami),
    path("echo", views.echo),
    path("large", views.large),
    path("stream", views.stream),
    path("download", views.download),
    path("status/<int:status>", views.status),
    path("hold", trouble.hold),
    path("raise", trouble.fail),
    path("spin-in-python", trouble.spin_in_python),
    path("spin-in-c", trouble.spin_in_c),
    path("exit", trouble.leave),
    path("sys-exit", trouble.give_up),
    path("crash", trouble.crash),
    path("short", trouble.short),
    path("notes/", note_list),
    path("backend", backend),
]
