"""The scheduler of a worker: one poller, every connection, a fixed number of request slots.

Leader and followers. Exactly one thread holds the lead: it waits for events, reads and
flushes for all connections. Once a request is complete the leader gives up the lead and
runs the application itself; the next thread takes it. So no request changes threads on
its way, and with one slot (`sync`) nothing ever contends.

One more thread, the stand-in, never runs application code. When all slots have been busy
for longer than a moment it takes the lead: flushes slow readers, judges deadlines, hands
connections that want to be served to workers that are idle (`handoff.py`), and gives the
lead back to the first slot that is free.

A request that waits is left in the kernel until a slot is free for it, so that its
connection can still move to another worker.

What the leader does is `loop.py`'s.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from django_wsgiserve.workers.connection import State
from django_wsgiserve.workers.loop import GIVE_AGAIN_S, Loop, Site

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_wsgiserve.workers.connection import Connection
    from django_wsgiserve.workers.slots import RequestSlot

# How long complete requests are served one after another before orders, deadlines, the
# heartbeat and other clients' bytes get their turn.
_SERVING_S = 0.005
# How long nobody must have led before the stand-in does, and for how long no request must
# have come before it sleeps until there is one.
_STAND_IN_S = 0.005
_PARK_S = 1.0
# How long other threads' requests may go on when the worker is told to leave now. The
# supervisor kills after two seconds.
_PARTING_S = 1.0


class Reactor(Loop):
    """The loop, the threads that lead it in turn, and their stand-in."""

    def __init__(self, site: Site) -> None:
        """Store; `open` registers, `run` starts the threads."""
        super().__init__(site)
        self._traffic.on_pressure = self._relieve
        self._lead = threading.Lock()
        self._turn_by_s = 0.0
        self._begun = 0
        self._parked = False
        self._unpark = threading.Event()
        self._failure: BaseException | None = None

    # -- threads ----------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until `quit`, or until `retire` has been asked for and nothing is left to do.

        The calling thread is the first slot: with one slot, a project's code runs in the
        main thread, as it does everywhere else.
        """
        wake_fd = self._waker.open()
        self.add_source(wake_fd, self._waker.rest)
        # Daemons: one that is stuck must not keep the process from ending.
        threads = [
            threading.Thread(
                target=self._guard, args=(self._take_part, slot), name=f"request-{n}", daemon=True
            )
            for n, slot in enumerate(self._slots[1:], 1)
        ]
        threads.append(
            threading.Thread(
                target=self._guard, args=(self._stand_in,), name="stand-in", daemon=True
            )
        )
        for thread in threads:
            thread.start()
        try:
            self._take_part(self._slots[0])
        finally:
            self.quit()
            self._unpark.set()
            self._waker.wake()
            leave_by_s = time.monotonic() + _PARTING_S
            for thread in threads:
                thread.join(max(0.0, leave_by_s - time.monotonic()))
            if not any(thread.is_alive() for thread in threads):
                self.remove_source(wake_fd)
                self._waker.close()
        if self._failure is not None:
            raise self._failure
        self._traffic.abort_all()

    def _guard(self, life: Callable[..., None], *arguments: object) -> None:
        """Be a thread; what goes wrong in it ends the worker as it would in the main thread."""
        try:
            life(*arguments)
        except BaseException as error:  # the top of a thread: nothing is above it
            self._failure = error
            self.quit()
            self._waker.wake()

    def _take_part(self, slot: RequestSlot) -> None:
        """Lead, serve, lead again: the life of a request thread."""
        slot.take_possession()
        clock, traffic = self._clock, self._traffic
        while True:
            connection = self._lead_to_request(slot)
            if connection is None:
                return
            if self._parked:
                self._parked = False
                self._unpark.set()
            mine = slot.serve(connection, keep_alive=self._keeps_alive)
            outcome = connection.outcome
            if (
                mine
                and outcome is not None
                and outcome.keep_alive
                and not connection.gone
                and not connection.output.items
            ):
                traffic.complete(connection)
            elif connection.state is State.RUNNING:
                traffic.send_rest(connection)
            slot.connection = None
            # After what was added: see `Waker`.
            if self._waiting and (
                traffic.again
                or self._retiring
                or not self._accepting
                or clock.due_s < self._waits_until_s
            ):
                self._waker.wake()

    def _lead_to_request(self, slot: RequestSlot) -> Connection | None:
        """Take the lead until a request is complete; return it, or `None` to leave."""
        lead = self._lead
        if not lead.acquire(blocking=False):
            self._wait_for_lead(slot)
        clock, traffic = self._clock, self._traffic
        try:
            if self._last_request:
                self.look_at_last_request()
            serves = clock.now_s < self._turn_by_s and (traffic.ready or traffic.runnable)
            while True:
                if traffic.again or self._departing:
                    self.catch_up()
                if self._quitting or (self._retiring and self.is_over()):
                    return None
                if serves and (connection := traffic.next_request()) is not None:
                    self._begun += 1
                    slot.connection = connection
                    return connection
                self._turn()
                serves = traffic.ready or traffic.runnable
                self._turn_by_s = clock.now_s + _SERVING_S
                if len(traffic.ready) > 1 and self._exchange.open:
                    self._exchange.share(sum(slot.connection is None for slot in self._slots))
        finally:
            lead.release()

    def _wait_for_lead(self, slot: RequestSlot) -> None:
        slot.wants_lead = True
        if self._standing_in:
            self._waker.wake()
        self._lead.acquire()
        slot.wants_lead = False

    # -- the stand-in -----------------------------------------------------------------------

    def _stand_in(self) -> None:
        """Watch that somebody leads. Never runs application code."""
        turns, begun, idle_since_s = -1, -1, 0.0
        while not self.is_over():
            time.sleep(_STAND_IN_S)
            if self._turns == turns and not self._lead.locked():
                self._standing_in = True
                if self._lead.acquire(blocking=False):
                    try:
                        self._lead_meanwhile()
                    finally:
                        self._lead.release()
                self._standing_in = False
            turns = self._turns
            now_s = time.monotonic()
            if self._begun != begun or any(slot.connection for slot in self._slots):
                begun, idle_since_s = self._begun, now_s
            elif now_s - idle_since_s > _PARK_S:
                self._unpark.clear()
                self._parked = True
                # After that was said: a request that has begun meanwhile may not have seen it.
                if self._begun == begun and not self._quitting:
                    self._unpark.wait()
                self._parked = False

    def _lead_meanwhile(self) -> None:
        """Lead until a slot is free: no new connections, and those that can go, go."""
        clock = self._clock
        self._stop_accepting()
        clock.now_s = time.monotonic()
        while not self._lead_is_wanted() and not self.is_over():
            self.catch_up()
            if not self._exchange.pass_on():
                clock.due_s = min(clock.due_s, clock.now_s + GIVE_AGAIN_S)
            self._turn()

    def _relieve(self, connection: Connection) -> None:
        """Wait until `connection` has taken all that is held for it, or its client has left.

        Called below the application, when a response fills its spool: the slot stays
        taken, whoever leads flushes.
        """
        slot = next((slot for slot in self._slots if slot.connection is connection), None)
        if slot is None or connection.state is not State.RUNNING:
            return  # a few bytes of ours; nobody can wait
        waits_since_s = time.monotonic()
        started_s = slot.cell.suspend()
        connection.deadline_s = waits_since_s + self._config.write_timeout_s
        connection.relief = relief = threading.Event()
        if self._quitting:
            connection.gone = True  # or the response would go on to grow, for nobody
        else:
            self._traffic.again.append(connection)
            if self._waiting:
                self._waker.wake()
            relief.wait()
        connection.relief = None
        connection.deadline_s = 0.0
        slot.cell.resume(started_s + time.monotonic() - waits_since_s)
