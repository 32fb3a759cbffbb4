"""Settings of the project that the integration tests serve."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = "only-for-tests"  # noqa: S105 - it protects nothing
DEBUG = False
ALLOWED_HOSTS = ["localhost", "site.example"]
USE_TZ = True
ROOT_URLCONF = "demo.urls"
WSGI_APPLICATION = "demo.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django_wsgiserve", "notes"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
DATA_UPLOAD_MAX_MEMORY_SIZE = None


def database() -> dict[str, Any]:
    """Return the database of DATABASE_URL, else SQLite in the project's directory."""
    url = urlsplit(os.environ.get("DATABASE_URL", ""))
    if not url.scheme:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path.lstrip("/"),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": unquote(url.hostname or ""),
        "PORT": url.port or "",
    }


DATABASES = {"default": {**database(), "CONN_MAX_AGE": 600}}
WSGISERVE: dict[str, Any] = {}
