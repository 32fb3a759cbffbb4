"""The access log and the operations log of one process: `open_logs`.

What a line says, and where its bytes go, are different modules: `access_line.py`,
`access_json.py` and `records.py` are about the former, `targets.py` and `devices.py`
about the latter.
"""

from __future__ import annotations

from django_wsgiserve.logs.opening import (
    ACCESS_LOGGER_NAME,
    SERVER_LOGGER_NAME,
    Logs,
    open_logs,
)

__all__ = ["ACCESS_LOGGER_NAME", "SERVER_LOGGER_NAME", "Logs", "open_logs"]
