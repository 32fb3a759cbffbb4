"""A production WSGI server that lives in the Django project it serves.

Importing this package imports nothing else: the supervisor must stay free of
Django, and `INSTALLED_APPS` must stay cheap.
"""

from __future__ import annotations

__version__ = "0.1.0"
