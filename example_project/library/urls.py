"""The addresses of the library."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from example_project.library.views import catalogue, transfers, trials

urlpatterns = [
    path("", catalogue.home, name="home"),
    path("books/", catalogue.books, name="books"),
    path("books/<int:pk>/", catalogue.book, name="book"),
    path("books/<int:pk>/borrow/", catalogue.borrow, name="borrow"),
    path("loans/", catalogue.loans, name="loans"),
    path("loans/<int:pk>/return/", catalogue.give_back, name="give-back"),
    path("api/books/", catalogue.books_json, name="books-json"),
    path("login/", LoginView.as_view(template_name="library/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("fast/", trials.fast, name="fast"),
    path("slow/", trials.slow, name="slow"),
    path("burn/", trials.burn, name="burn"),
    path("raise/", trials.fail, name="raise"),
    path("whoami/", trials.whoami, name="whoami"),
    path("version/", trials.version, name="version"),
    path("upload/", transfers.upload, name="upload"),
    path("upload/raw/", transfers.upload_raw, name="upload-raw"),
    path("stream/", transfers.stream, name="stream"),
    path("download/<int:size>/", transfers.download, name="download"),
]
