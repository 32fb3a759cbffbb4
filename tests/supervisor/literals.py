"""Short spellings of the values that `plan` takes, so that a test shows what matters."""

from __future__ import annotations

from typing import Any

from django_wsgiserve.supervisor.states import Desired, Generation, Life, Stage, Worker

NOW_S = 1000.0


def desired(**changes: Any) -> Desired:
    """Return two wanted workers, TIMEOUT 30 s, watched for a long time."""
    values: dict[str, Any] = {"workers": 2, "slots": 16, "awake_since_s": 0.0}
    return Desired(**{**values, **changes})


def serving(number: int = 1, **changes: Any) -> Generation:
    """Return the promoted generation."""
    values: dict[str, Any] = {"number": number, "stage": Stage.SERVING, "since_s": 10.0}
    return Generation(**{**values, **changes})


def loading(number: int = 2, **changes: Any) -> Generation:
    """Return a generation whose forkserver began to import a second ago."""
    values: dict[str, Any] = {"number": number, "stage": Stage.LOADING, "since_s": NOW_S - 1}
    return Generation(**{**values, **changes})


def proving(number: int = 2, **changes: Any) -> Generation:
    """Return a generation that has just loaded."""
    return loading(number, **{"stage": Stage.PROVING, **changes})


def leaving(number: int = 1, **changes: Any) -> Generation:
    """Return a superseded generation."""
    return loading(number, **{"stage": Stage.LEAVING, **changes})


def ready(slot: int, generation: int = 1, **changes: Any) -> Worker:
    """Return an idle worker that has served for a while and is well."""
    values: dict[str, Any] = {
        "slot": slot,
        "generation": generation,
        "life": Life.READY,
        "since_s": NOW_S - 100,
        "pid": 100 + slot,
        "heartbeat_s": NOW_S - 0.5,
    }
    return Worker(**{**values, **changes})


def starting(slot: int, generation: int = 1, **changes: Any) -> Worker:
    """Return a worker that was forked a moment ago."""
    return ready(
        slot,
        generation,
        **{"life": Life.STARTING, "since_s": NOW_S - 0.1, "heartbeat_s": 0.0, **changes},
    )


def ordered(slot: int, generation: int = 1, **changes: Any) -> Worker:
    """Return a worker that the forkserver was told to fork a moment ago."""
    return starting(slot, generation, **{"life": Life.ORDERED, "pid": 0, **changes})
