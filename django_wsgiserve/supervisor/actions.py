"""What `plan` can decide on. `supervisor.py` carries these out and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Reason(Enum):
    """Why a worker or forkserver is made to leave; the words are those of the log."""

    SUPERSEDED = "a newer one took its place"
    SURPLUS = "fewer workers are wanted"
    STOPPING = "the server stops"
    GAVE_UP = "its generation was given up"
    REQUEST_TIMEOUT = "its request ran longer than TIMEOUT"
    SILENT = "it gave no sign of life for longer than TIMEOUT"
    BOOT_TIMEOUT = "it was not ready within BOOT_TIMEOUT"
    GRACEFUL_TIMEOUT = "it did not finish within GRACEFUL_TIMEOUT"
    IGNORED_QUIT = "it did not leave when told to"
    IGNORED_ABORT = "SIGABRT did not end it"
    UNRESPONSIVE = "it does not answer orders"
    FAILED_STARTS = "its workers died before they were ready"
    FAILED = "it cannot serve"


@dataclass(frozen=True, slots=True)
class StartGeneration:
    """Start a forkserver of the code that is on disk now."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Tell a forkserver to fork a worker into a slot."""

    generation: int
    slot: int
    probe: bool = False
    """The worker must answer a request of its own before it says it is ready."""


@dataclass(frozen=True, slots=True)
class Promote:
    """Make a proven generation the serving one."""

    generation: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Drop a generation before its promotion; the serving one is untouched."""

    generation: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Retire:
    """Order a worker to finish what it has and to leave."""

    slot: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Quit:
    """Order a worker to leave now."""

    slot: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Abort:
    """End a stuck worker so that it leaves its stack behind (SIGABRT)."""

    slot: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker for certain (SIGKILL)."""

    slot: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class CloseForkserver:
    """Close the control socket: the forkserver has nothing left to do and leaves."""

    generation: int


@dataclass(frozen=True, slots=True)
class KillForkserver:
    """End a forkserver for certain (SIGKILL)."""

    generation: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class StopListening:
    """Close the listening sockets: the server stops."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to wait for."""


Action = (
    StartGeneration
    | Spawn
    | Promote
    | GiveUp
    | Retire
    | Quit
    | Abort
    | Kill
    | CloseForkserver
    | KillForkserver
    | StopListening
    | Finish
)
