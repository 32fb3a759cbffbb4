"""What one round of one server says, and which of its figures decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from servers import RunningServer

Sample = dict[str, float]
"""Figures of one round of one server, by the keys of its load's columns."""


class LoadFailed(Exception):
    """A server could not be loaded; the argument says why, for the report."""


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of a sample as it is shown: the median over the rounds, or their sum."""

    key: str
    head: str
    digits: int = 0
    summed: bool = False
    more_is_better: bool = True


RATE = Column("rate", "requests/s")
P50 = Column("p50_ms", "p50 ms", 2, more_is_better=False)
P99 = Column("p99_ms", "p99 ms", 2, more_is_better=False)
CPU = Column("cpu_us", "CPU µs/request", 1, more_is_better=False)
FAILED = Column("failed", "failed", summed=True, more_is_better=False)


class Load(Protocol):
    """What is done to a server, once for each round."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The figures of its samples."""

    @property
    def judged_by(self) -> Column:
        """The figure that decides; one of the columns."""

    @property
    def description(self) -> str:
        """What is done, for the report."""

    def run(self, server: RunningServer, path: str, seconds: int) -> Sample:
        """Do it and return what came of it.

        Raises:
            LoadFailed: Nothing could be measured.
        """
