"""A throw-away copy of the test project, for a test to deploy to and to break."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TEMPLATE = Path(__file__).parent / "project"
REPOSITORY = Path(__file__).parents[2]
MANAGE_S = 60.0


class ProjectCopy:
    """A project in a directory of its own."""

    def __init__(self, directory: Path, migrated_database: Path | None = None) -> None:
        """Copy the template.

        Args:
            directory: Where to; it must not exist yet.
            migrated_database: An SQLite file with all migrations applied; `None`: no file.
        """
        self.directory = directory
        ignored = shutil.ignore_patterns("__pycache__", "db.sqlite3")
        shutil.copytree(TEMPLATE, directory, ignore=ignored)
        if migrated_database is not None:
            shutil.copy(migrated_database, directory / "db.sqlite3")

    def write(self, path: str, text: str) -> None:
        """Replace a file at once, as a deploy does: no process ever reads half of it."""
        target = self.directory / path
        draft = target.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(target)

    def append(self, path: str, text: str) -> None:
        """Add `text` to the end of a file."""
        self.write(path, self.read(path) + text)

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return (self.directory / path).read_text()

    def deploy(self, version: str) -> None:
        """Make `version` what newly loaded code answers with."""
        self.write("demo/version.py", f'VERSION = "{version}"\n')

    def configure(self, **values: object) -> None:
        """Set keys of the WSGISERVE dict."""
        self.append("demo/settings.py", f"\nWSGISERVE.update({values!r})\n")

    def environment(self, **extra: str) -> dict[str, str]:
        """Return the environment to run the project's commands in.

        No bytecode is written: a file changed twice within a second, to the same size,
        would otherwise be taken from the stale cache.
        """
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
        own = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
        outer = {k: v for k, v in os.environ.items() if not k.startswith("WSGISERVE")}
        for name in ("PORT", "WEB_CONCURRENCY", "DJANGO_SETTINGS_MODULE"):
            outer.pop(name, None)
        return {**outer, **own, **extra}

    def manage(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run `manage.py` to its end."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.directory,
            env=self.environment(**extra),
            capture_output=True,
            text=True,
            timeout=MANAGE_S,
            check=False,
        )
