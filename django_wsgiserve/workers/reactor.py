"""The scheduler of a worker: one poller, every connection, a fixed number of request slots.

Leader and followers. Exactly one thread holds the lead: it waits for events, reads and
flushes for all connections, and runs the application itself as soon as a request is
complete. So no request changes threads on its way.

While the application runs the lead is lent (`lead.py`): it comes back with the thread,
unless that takes long. When requests turn out to wait, for a database or another service,
the lead is given to the next thread before the application is called, so that they wait
side by side. What only computes gains nothing by that: one thread computes at a time, and
changing threads costs more than many a request.

One more thread, the stand-in, never runs application code. When a request has run for
longer than a moment it takes the lead: for another request thread if one is free, else for
itself, to flush slow readers, judge deadlines and hand connections that want to be served
to workers that are idle (`handoff.py`), until the first slot is free.

A request that waits is left in the kernel until a slot is free for it, so that its
connection can still move to another worker.

What the leader does is `loop.py`'s.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from django_wsgiserve.workers.connection import State
from django_wsgiserve.workers.lead import Lead, thread_usage
from django_wsgiserve.workers.loop import GIVE_AGAIN_S, Loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_wsgiserve.workers.connection import Connection
    from django_wsgiserve.workers.site import Site
    from django_wsgiserve.workers.slots import RequestSlot

# How long complete requests are served one after another before orders, deadlines, the
# heartbeat and other clients' bytes get their turn.
_SERVING_S = 0.005
# For how long a request must have run, and nobody led, before the stand-in does; and for how
# long no request must have come before it sleeps until there is one.
_STAND_IN_S = 0.005
_PARK_S = 1.0
# How long other threads' requests may go on when the worker is told to leave now. The
# supervisor kills after two seconds.
_PARTING_S = 1.0
# A request that took longer may have waited for something; the next such one is looked at
# more closely. One that gave up its processor by itself, and did without it for more than a
# share of its time, says that requests are to run side by side; for a time that doubles
# each time one says so again. (Only the two together: a busy machine takes processors away.)
_LONG_S = 0.0005
_WAITED_SHARE = 0.2
_SIDE_BY_SIDE_S = 0.05
_SIDE_BY_SIDE_MAX_S = 1.0


class Reactor(Loop):
    """The loop, the threads that lead it in turn, and their stand-in."""

    def __init__(self, site: Site) -> None:
        """Store; `open` registers, `run` starts the threads."""
        super().__init__(site)
        self._traffic.on_pressure = self._relieve
        self._lead = Lead()
        self._is_concurrent = len(self._slots) > 1
        self._suspects_waits = False
        self._side_by_side_s = _SIDE_BY_SIDE_S
        self._side_by_side_until_s = 0.0
        self._turn_by_s = 0.0
        self._begun = 0
        self._parked = False
        self._unpark = threading.Event()
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._end: list[None] = [None]
        """Who pops ends the run: the main thread, or the stand-in where that one is stuck."""

    # -- threads ----------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until `quit`, or until `retire` has been asked for and nothing is left to do.

        The calling thread is the first slot: with one slot, a project's code runs in the
        main thread, as it does everywhere else.
        """
        wake_fd = self._waker.open()
        self.add_source(wake_fd, self._waker.rest)
        # Daemons: one that is stuck must not keep the process from ending.
        self._threads = threads = [
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
            if not self._may_end():
                threading.Event().wait()  # the stand-in is ending the process
            self._part()
            if not any(thread.is_alive() for thread in threads):
                self.remove_source(wake_fd)
                self._waker.close()
        if self._failure is not None:
            raise self._failure
        self._traffic.abort_all()

    def _may_end(self) -> bool:
        """Whether it is for the calling thread to end the run."""
        try:
            self._end.pop()
        except IndexError:
            return False
        return True

    def _part(self) -> None:
        """Have the other threads leave, and wait a moment for those that are not given up."""
        self.quit()
        self._unpark.set()
        self._waker.wake()
        leave_by_s = time.monotonic() + _PARTING_S
        stuck = {slot.ident for slot in self._slots if slot.is_stuck}
        for thread in self._threads:
            if thread.ident not in stuck and thread is not threading.current_thread():
                thread.join(max(0.0, leave_by_s - time.monotonic()))

    def _guard(self, life: Callable[..., None], *arguments: object) -> None:
        """Be a thread; what goes wrong in it ends the worker as it would in the main thread."""
        try:
            life(*arguments)
        except BaseException as error:  # the top of a thread: nothing is above it
            self._failure = error
            self.quit()
            self._waker.wake()

    # Not in parts: each would be a call for every request.
    def _take_part(self, slot: RequestSlot) -> None:  # noqa: C901, PLR0912, PLR0915
        """Lead, serve, lead again: the life of a request thread."""
        slot.take_possession()
        clock, traffic, lead = self._clock, self._traffic, self._lead
        leads = False
        try:
            while True:
                if not leads:
                    self._wait_for_lead(slot)
                    leads = True
                connection = self._lead_to_request(slot)
                if connection is None:
                    return
                if self._parked:
                    self._parked = False
                    self._unpark.set()
                began_s = clock.now_s
                usage = thread_usage() if self._suspects_waits else None
                if began_s < self._side_by_side_until_s:
                    leads = False
                    lead.release()
                else:
                    lead.lender = slot
                    slot.lends = True
                mine = slot.serve(connection, keep_alive=self._keeps_alive)
                if leads:
                    slot.lends = False
                    if slot.lost and lead.is_lost(slot):
                        leads = False
                    elif self._is_concurrent and clock.now_s - began_s > _LONG_S:
                        self._weigh(clock.now_s - began_s, usage)
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
                    if leads:
                        traffic.finish(connection)
                    else:
                        traffic.send_rest(connection)
                slot.connection = None
                if not leads:
                    self._wake_leader()
        finally:
            if leads and not slot.lost:
                lead.release()

    def _wake_leader(self) -> None:
        """End the leader's wait if there is something new for it. After what was added: `Waker`."""
        if self._waiting and (
            self._traffic.again
            or self._retiring
            or not self._accepting
            or self._clock.due_s < self._waits_until_s
        ):
            self._waker.wake()

    def _lead_to_request(self, slot: RequestSlot) -> Connection | None:
        """Lead until a request is complete; return it, or `None` to leave."""
        clock, traffic = self._clock, self._traffic
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
            events = self._turn()
            self._turn_by_s = clock.now_s + _SERVING_S
            # A slice is no call.
            if (serves or events[1:]) and traffic.ready and self._exchange.open:
                self._exchange.share(self._count_free())
            serves = traffic.ready or traffic.runnable

    def _count_free(self) -> int:
        """Return how many requests can be begun here now without making each other wait."""
        return sum(slot.connection is None for slot in self._slots)

    def _wait_for_lead(self, slot: RequestSlot) -> None:
        if not self._lead.acquire(blocking=False):
            slot.wants_lead = True
            if self._standing_in:
                self._waker.wake()
            self._lead.acquire()
            slot.wants_lead = False
        slot.lost = False

    def _weigh(self, took_s: float, before: tuple[float, int] | None) -> None:
        """Learn from a request that took long whether requests wait for something.

        Args:
            took_s: From its beginning to its end.
            before: The thread's usage at its beginning, if it was suspected.
        """
        self._suspects_waits = before is None
        if before is None:
            return
        cpu_s, waits = thread_usage()
        if waits > before[1] and took_s - (cpu_s - before[0]) > took_s * _WAITED_SHARE:
            self._run_side_by_side()
        else:
            self._side_by_side_s = _SIDE_BY_SIDE_S

    def _run_side_by_side(self) -> None:
        """Give the lead away before each request, for a while."""
        self._side_by_side_until_s = self._clock.now_s + self._side_by_side_s
        self._side_by_side_s = min(2 * self._side_by_side_s, _SIDE_BY_SIDE_MAX_S)
        # Not at once: the first ones after it wait for the threads that are still at work.
        self._suspects_waits = False

    # -- the stand-in -----------------------------------------------------------------------

    def _stand_in(self) -> None:
        """Watch that somebody leads. Never runs application code."""
        begun, idle_since_s, look_after_s = -1, 0.0, _STAND_IN_S
        while not self.is_over():
            time.sleep(look_after_s)
            now_s = time.monotonic()
            look_after_s = _STAND_IN_S
            if any(slot.connection for slot in self._slots):
                lasts_s = self._busy_s(now_s, settled=self._begun == begun)
                if lasts_s < _STAND_IN_S:
                    look_after_s -= lasts_s
                elif self._take_lead():
                    self._lead_meanwhile()
                begun, idle_since_s = self._begun, now_s
            elif self._begun != begun:
                begun, idle_since_s = self._begun, now_s
            elif now_s - idle_since_s > _PARK_S:
                self._park(begun)
        if self._slots[0].is_stuck and self._may_end():
            self._part()
            self._traffic.abort_all()
            self._site.leave_main()

    def _park(self, begun: int) -> None:
        """Sleep until a request begins, if none has since there were `begun`."""
        self._unpark.clear()
        self._parked = True
        # After that was said: a request that has begun meanwhile may not have seen it.
        if self._begun == begun and not self._quitting:
            self._unpark.wait()
        self._parked = False

    def _busy_s(self, now_s: float, *, settled: bool) -> float:
        """Return for how long no request has begun, while some are running.

        Args:
            now_s: The time (monotonic).
            settled: None has begun since the last look. Where no clock runs, because all wait
                for slow readers, that says the same.
        """
        latest_s = max(slot.cell.started_s for slot in self._slots)
        if latest_s:
            return now_s - latest_s
        return _STAND_IN_S if settled else 0.0

    def _take_lead(self) -> bool:
        """Take the lead, if nobody uses it. True: and no request thread wants it."""
        lead = self._lead
        if lead.take_from_lender():
            if self._is_concurrent:
                self._clock.now_s = time.monotonic()
                self._run_side_by_side()
        elif not lead.acquire(blocking=False):
            return False
        # Before the look at who wants the lead: a thread says so first and looks at this
        # afterwards.
        self._standing_in = True
        if self._lead_is_wanted():
            self._standing_in = False
            lead.release()
            return False
        return True

    def _lead_meanwhile(self) -> None:
        """Lead until a slot is free: those that can go, go; new ones come to be refused at most."""
        clock = self._clock
        try:
            self._stop_accepting()
            clock.now_s = time.monotonic()
            while not self._lead_is_wanted() and not self.is_over():
                self.catch_up()
                if not self._exchange.pass_on():
                    clock.due_s = min(clock.due_s, clock.now_s + GIVE_AGAIN_S)
                self._take_late()
                self._turn()
            self._stop_accepting()
        finally:
            self._standing_in = False
            self._lead.release()

    def _take_late(self) -> None:
        """Take what has waited for too long between the workers, to refuse it."""
        longest_s = self._config.max_queue_wait_s
        if longest_s and not self._retiring:
            clock = self._clock
            while (oldest_s := self._exchange.oldest_s()) + longest_s <= clock.now_s:
                if not self._take():
                    return
            clock.due_s = min(clock.due_s, oldest_s + longest_s)

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
            if slot.lends:
                self._lead.give_up(slot)
            elif self._waiting:
                self._waker.wake()
            relief.wait()
        connection.relief = None
        connection.deadline_s = 0.0
        slot.cell.resume(started_s + time.monotonic() - waits_since_s)
