"""The values that `plan` reads: what is wanted, and what is there.

All times are `time.monotonic()` in seconds. `None` for a time means: has not happened.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, IntEnum

BACKOFF_BASE_S = 0.1
BACKOFF_CAP_S = 10.0
# Longer than the cap and a short life together, so that a loop that has reached the
# cap is still one loop and not a first failure again.
BACKOFF_FORGET_S = 30.0


class Stop(IntEnum):
    """How the server was asked to stop."""

    NO = 0
    GRACEFUL = 1
    QUICK = 2


class Stage(Enum):
    """How far a generation has come."""

    LOADING = "loading"
    """Its forkserver imports, checks and warms up the project."""
    PROVING = "proving"
    """Loaded; one worker of it must answer before anything of the old one is touched."""
    SERVING = "serving"
    """Promoted: new workers are of this generation. At most one is."""
    LEAVING = "leaving"
    """Superseded or given up; it ends with its last worker."""


class Life(Enum):
    """How far a worker has come."""

    ORDERED = "ordered"
    """The forkserver was told to fork it; its pid is not known yet."""
    STARTING = "starting"
    READY = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """When something that keeps failing may be tried again."""

    count: int = 0
    """Failures in a row."""
    last_s: float = 0.0
    until_s: float = 0.0

    def failed(self, now_s: float, free: int = 0) -> Backoff:
        """Return the state after one more failure.

        Args:
            now_s: When it failed.
            free: How many failures in a row cost no delay: a worker that dies once is
                replaced at once; one that always dies must not become a fork storm.
        """
        count = 1 if now_s - self.last_s > BACKOFF_FORGET_S else self.count + 1
        doublings = count - free - 1
        delay_s = 0.0
        if doublings >= 0:
            # 2.0 ** 1024 overflows; the cap is reached long before 30 doublings.
            delay_s = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(doublings, 30))
        return replace(self, count=count, last_s=now_s, until_s=now_s + delay_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What should be: the resolved numbers and the operator's orders."""

    workers: int
    slots: int
    """Rows of the scoreboard: no more workers than these, old and new together."""
    timeout_s: float = 30.0
    """0: requests may run, and loops be silent, for ever. A view may have its own limit."""
    graceful_timeout_s: float = 30.0
    boot_timeout_s: float = 60.0
    """0: no limit."""
    drain_delay_s: float = 0.0
    reload: bool = False
    """A new generation is wanted, whatever becomes of the present one."""
    stop: Stop = Stop.NO
    stop_since_s: float = 0.0
    listening: bool = True
    """The supervisor still holds the listening sockets."""
    awake_since_s: float = 0.0
    """Since when the supervisor has been watching without a gap. After a freeze (a
    paused container, SIGSTOP to the group) every heartbeat is old, and nobody is to blame."""
    load_after_s: float = 0.0
    """Back-off: no forkserver is started before."""
    spawn_after_s: float = 0.0
    """Back-off: no worker is forked before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One forkserver and its code."""

    number: int
    stage: Stage
    since_s: float
    """When the stage began."""
    alive: bool = True
    """The forkserver runs. Its workers may outlive it."""
    failed: bool = False
    """It has said, or shown, that it cannot serve; not yet given up by the plan."""
    failed_starts: int = 0
    """Workers of it that died before they were ready, while it was proving."""
    closed_s: float | None = None
    """When its control socket was closed, which tells it to leave."""
    killed_s: float | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A request that runs in a worker."""

    started_s: float
    timeout_s: float = 0.0
    """The limit of its view, infinite for none; 0.0: TIMEOUT holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker process, or the order to fork it."""

    slot: int
    generation: int
    life: Life
    since_s: float
    """When `life` began."""
    pid: int = 0
    wants_retirement: bool = False
    retiring_s: float | None = None
    """When it was told to finish and leave."""
    quitting_s: float | None = None
    aborted_s: float | None = None
    killed_s: float | None = None
    heartbeat_s: float = 0.0
    running: tuple[Running, ...] = ()
    """Its requests, as the scoreboard has them."""

    @property
    def leaving(self) -> bool:
        """It was told, or made, to leave: do not count on it."""
        return (
            self.retiring_s is not None
            or self.quitting_s is not None
            or self.aborted_s is not None
            or self.killed_s is not None
        )

    @property
    def serving(self) -> bool:
        """It answers requests and was not told to stop doing so."""
        return self.life is Life.READY and not self.leaving
