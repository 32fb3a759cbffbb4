"""What a deploy changes: the tests rewrite this file between reloads."""

from __future__ import annotations

VERSION = "one"
