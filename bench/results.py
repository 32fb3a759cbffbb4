"""What came of a scenario, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samples import Column, Sample
    from scenarios import Scenario


@dataclass(frozen=True, slots=True)
class Result:
    """The samples of every server that took part, round by round, by name."""

    scenario: Scenario
    rounds: int
    seconds: int
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """Why a server is not among them."""
    floor_us: list[float] = field(default_factory=list)
    """CPU time of the application called without a server, round by round."""

    def figure(self, name: str, column: Column) -> float:
        """Return a figure of one server over all rounds."""
        values = [sample[column.key] for sample in self.samples[name]]
        return sum(values) if column.summed else median(values)

    def extent(self, name: str, column: Column) -> tuple[float, float]:
        """Return the lowest and the highest of a figure."""
        values = [sample[column.key] for sample in self.samples[name]]
        return min(values), max(values)

    def ratios(self, name: str) -> list[float]:
        """Return how many times as good as this server the first of the scenario is, by round.

        Empty if the first one is absent; without a round in which either has no figure.
        """
        judge = self.scenario.load.judged_by
        first = self.samples.get(self.scenario.peers[0].name, [])
        pairs = [
            (mine[judge.key], theirs[judge.key])
            for mine, theirs in zip(first, self.samples[name], strict=False)
            if mine[judge.key] and theirs[judge.key]
        ]
        if judge.more_is_better:
            return [mine / theirs for mine, theirs in pairs]
        return [theirs / mine for mine, theirs in pairs]
