"""The settings of hello, with the application that has several pages."""

from hello_site.settings import *  # noqa: F403

WSGI_APPLICATION = "hello_site.pages.application"
