"""The application: Django, with plain WSGI callables under `/raw/` beside it."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

from demo.raw import beside

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")

application = beside(get_wsgi_application())
