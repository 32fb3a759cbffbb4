"""The settings of hello, with the application that counts."""

from hello_site.settings import *  # noqa: F403

WSGI_APPLICATION = "hello_site.counted.application"
