"""The release of this site's code, as it was when the process imported it."""

from __future__ import annotations

RELEASE = "1"
