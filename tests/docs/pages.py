"""The pages of the documentation, and what can be tried of them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?"
    r"^(?P<indent> *)```(?P<language>[a-z]+)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        not_run: Why its commands cannot be run by a test; empty when they can.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str

    @property
    def commands(self) -> list[str]:
        """What is typed at the prompt."""
        lines = self.text.splitlines()
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return every page that people read, design notes aside: those are for developers."""
    written = sorted((REPOSITORY / "docs").glob("**/*.md"))
    notes = {REPOSITORY / "docs" / "design.md", *(REPOSITORY / "docs" / "decisions").glob("*")}
    built = REPOSITORY / "docs" / "_build"
    documentation = [page for page in written if page not in notes and built not in page.parents]
    return [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *documentation]


def blocks(*languages: str) -> list[Block]:
    """Return every block in one of `languages`, page by page, from top to bottom."""
    return list(_blocks(languages))


def _blocks(languages: tuple[str, ...]) -> Iterator[Block]:
    for path in pages():
        text = path.read_text()
        for match in _BLOCK.finditer(text):
            if match["language"] in languages:
                yield Block(
                    page=str(path.relative_to(REPOSITORY)),
                    line=text.count("\n", 0, match.start("language")) + 1,
                    language=match["language"],
                    text=textwrap.dedent(match["text"]),
                    not_run=match["reason"] or "",
                )
