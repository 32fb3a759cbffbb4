"""What the server may be told, who tells it, and what was told in the end.

The table of settings is `table.py`; every source of values is read by what it says.
"""

from __future__ import annotations

from django_wsgiserve.config.table import MOST_WORKERS, ServerConfig

__all__ = ["MOST_WORKERS", "ServerConfig"]
