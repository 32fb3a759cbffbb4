"""What an operator sees when the server is ready: at most twelve lines of plain text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MOST_LINES = 12
_FIXED_LINES = 5  # title, settings, workers, checks, ready
_LABEL_WIDTH = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BannerValues:
    """What the banner says."""

    server_version: str
    django_version: str
    python_version: str
    settings_module: str
    workers: int
    workers_reason: str
    """How the number came about: `2 CPUs x 2 + 1`; empty to say nothing."""
    worker_class: str
    urls: tuple[str, ...]
    """Addresses to click on, or `unix:/run/site.sock`."""
    checks: str
    """The result of the system checks in a few words: `no problems`."""
    notes: tuple[str, ...] = ()
    """Further lines, the most important first."""
    ready_s: float
    """From the command to the first answer."""
    pid: int
    """The supervisor's: what to send signals to."""

    @property
    def title(self) -> str:
        """The versions of everything that serves."""
        return (
            f"django-wsgiserve {self.server_version}, Django {self.django_version}, "
            f"Python {self.python_version}"
        )

    def fields(self) -> dict[str, Any]:
        """Return the values by name, for a JSON log."""
        return asdict(self)


def render(values: BannerValues) -> list[str]:
    """Return the lines of the banner, without line feeds; at most `MOST_LINES`."""
    reason = f" ({values.workers_reason})" if values.workers_reason else ""
    room = MOST_LINES - _FIXED_LINES
    # Addresses come first, but leave a line to the notes when there are any.
    urls = _shortened(values.urls, room - 1 if values.notes else room)
    notes = _shortened(values.notes, room - len(urls))
    return [
        values.title,
        _line("settings", values.settings_module),
        _line("workers", f"{values.workers} {values.worker_class}{reason}"),
        *(_line("" if index else "listening", url) for index, url in enumerate(urls)),
        _line("checks", values.checks),
        *(_line("note", note) for note in notes),
        f"  ready in {values.ready_s:.2f} s, pid {values.pid}",
    ]


def _line(label: str, text: str) -> str:
    return f"  {label:<{_LABEL_WIDTH}} {' '.join(text.split())}"


def _shortened(texts: tuple[str, ...], room: int) -> list[str]:
    """Return `texts`, or as many as leave room for a last line that counts the others."""
    if len(texts) <= room:
        return list(texts)
    shown = list(texts[: room - 1])
    return [*shown, f"and {len(texts) - len(shown)} more"]
