"""The lead: the right to wait for events and to read and write for all connections.

One thread has it at a time. A request thread that leads runs the application itself; while
it does, the lead is *lent*: it stays with the thread unless another one takes it, because
the application has not come back for a while. So a request that is quick costs no lock, no
wake-up and no thread switch, whatever the number of threads (measured with 4 threads: 2.5
times the requests of a lead that is given away each time).

To lend is one store, to have the lead back another, and a look at `lost`. Against a taker
that comes at the same time both keep an order: the lender stops lending first and looks at
`lost` afterwards, the taker sets `lost` first and looks at `lends` afterwards; if both see
the other, a lock settles it.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django_wsgiserve.workers.slots import RequestSlot


class Lead:
    """Held by one thread, or lent by one slot."""

    def __init__(self) -> None:
        """Nobody holds it."""
        self._held = threading.Lock()
        self._settling = threading.Lock()
        self.acquire = self._held.acquire
        self.release = self._held.release
        self.lender: RequestSlot | None = None
        """Who lent it last, if it was not taken; `lends` of it says whether it still does."""

    def take_from_lender(self) -> bool:
        """Take the lead from a slot that lends it. False: none does.

        The caller has it then, to be given away by `release`.
        """
        lender = self.lender
        if lender is None or not lender.lends:
            return False
        with self._settling:
            if not lender.lends:
                return False
            lender.lost = True
            if lender.lends:
                self.lender = None  # it says that it lends until its request is over
                return True
            lender.lost = False
            return False

    def give_up(self, slot: RequestSlot) -> None:
        """Let others lead while `slot`, which lends the lead, waits for something."""
        with self._settling:
            slot.lends = False
            if not slot.lost:
                slot.lost = True
                self.release()

    def is_lost(self, slot: RequestSlot) -> bool:
        """Whether `slot`, which lends no more and found `lost` set, has lost the lead."""
        with self._settling:
            return slot.lost


def thread_usage() -> tuple[float, int]:
    """Return the CPU time of this thread in seconds, and how often it has waited.

    The second counts system calls that had to wait, and so gave up the processor, but not
    the times when the system took it away; where the system has no such count for a thread,
    it is a number that always grows.

    Source: getrusage(2), RUSAGE_THREAD.
    """
    if sys.platform == "linux":
        usage = resource.getrusage(resource.RUSAGE_THREAD)
        return usage.ru_utime + usage.ru_stime, usage.ru_nvcsw
    return time.thread_time(), time.monotonic_ns()
