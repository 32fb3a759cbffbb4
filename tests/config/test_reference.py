"""The reference of the settings is what the table says."""

from __future__ import annotations

from django_wsgiserve.config.table import table
from tools import settings_reference


def test_reference_is_not_stale() -> None:
    written = settings_reference.PAGE.read_text(encoding="utf-8")
    assert written == settings_reference.page(), "run: python -m tools.settings_reference"


def test_reference_has_a_section_for_each_setting() -> None:
    headings = [line for line in settings_reference.page().splitlines() if line.startswith("### ")]
    for row in table():
        assert f"### {row.flag if row.option.flag_only else row.key}" in headings
