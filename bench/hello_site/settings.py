"""The least a Django project can be."""

from __future__ import annotations

SECRET_KEY = "of no use: nothing is signed here"  # noqa: S105
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django_wsgiserve"]
ROOT_URLCONF = "hello_site.settings"
urlpatterns: list[object] = []
WSGI_APPLICATION = "hello_site.wsgi.application"
