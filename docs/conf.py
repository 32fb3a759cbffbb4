"""Sphinx builds this documentation: `make docs`."""

from __future__ import annotations

from django_wsgiserve import __version__

project = "django-wsgiserve"
author = "django-wsgiserve contributors"
project_copyright = author
version = release = __version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"{project} {release}"
html_theme_options = {"source_edit_link": ""}
