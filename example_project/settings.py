"""Settings of the example project.

They are those of a production deploy, with defaults under which it runs on a laptop:
SQLite unless DATABASE_URL names PostgreSQL, and a key that only fits a laptop unless
SECRET_KEY is given.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = os.environ.get("DEBUG", "") == "1"
SECRET_KEY = os.environ.get("SECRET_KEY", "only-good-for-trying-it-out-on-one-machine-" + "0" * 20)
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

# The server. Every key is optional; docs/reference/settings.md lists them all.
WSGISERVE: dict[str, Any] = {
    # "BIND": ["127.0.0.1:8000", "[::1]:8000"],
    # "WORKERS": 4,              # "auto": as many as the CPUs this process may use
    # "TIMEOUT": "30s",          # a request that runs longer has its worker replaced
    # "MAX_REQUESTS": 10_000,    # replace a worker after this many, a new one first
    "LIMIT_REQUEST_BODY": "64MiB",
    # Asked for once, before the fork: what they import, compile and cache, all workers share.
    "WARMUP": ["/", "/fast/", "/books/", "/api/books/"],
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_wsgiserve",
    "example_project.library",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def postgresql_from_url(url: str) -> dict[str, Any]:
    """Return the DATABASES entry of `postgresql://user:password@host:port/name?option=value`.

    Every part may be missing, then libpq's own default is used; a `host` in the query
    is the directory of a Unix socket.

    Raises:
        ValueError: The scheme is not that of PostgreSQL, or the port is not a number.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ValueError(f"DATABASE_URL must begin with postgresql://, not {parts.scheme!r}")
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", unquote(parts.hostname or "")),
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": os.environ.get("SQLITE_PATH", str(BASE_DIR / "db.sqlite3")),
    "OPTIONS": {
        # Readers and one writer side by side, and a writer waits for its turn instead of
        # failing: without these, several workers soon meet "database is locked".
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    },
}

DATABASE_URL = os.environ.get("DATABASE_URL", "")
DATABASES = {"default": postgresql_from_url(DATABASE_URL) if DATABASE_URL else SQLITE}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
# Static files are served from the apps that bring them, so nothing needs to be collected.
WHITENOISE_USE_FINDERS = True

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
