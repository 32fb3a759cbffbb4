"""How the properties are tried."""

from __future__ import annotations

from hypothesis import settings

# A deadline would make a busy machine look like a bug.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
