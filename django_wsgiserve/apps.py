"""The Django app: one line in INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register

from django_wsgiserve.checks import TAG, check_configuration, check_views


class WsgiServeConfig(AppConfig):
    """Registers the system checks; serving starts with `manage.py runprod` and nothing else."""

    name = "django_wsgiserve"
    verbose_name = "WSGI server"

    def ready(self) -> None:
        """Register the checks under their own tag, for `manage.py check --tag wsgiserve`."""
        register(check_configuration, TAG)
        register(check_views, TAG)
