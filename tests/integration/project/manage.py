"""The entry point of the project that the integration tests serve."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
