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

It knows nothing of signals, pipes to the supervisor or log files: those are sources
that `base.py` registers.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django_wsgiserve.events import ERROR, WARNING
from django_wsgiserve.scoreboard import State as RowState
from django_wsgiserve.workers.acceptor import Acceptor
from django_wsgiserve.workers.clock import Clock
from django_wsgiserve.workers.connection import State
from django_wsgiserve.workers.handoff import can_travel
from django_wsgiserve.workers.poller import new_poller
from django_wsgiserve.workers.slots import RequestSlot
from django_wsgiserve.workers.traffic import Traffic
from django_wsgiserve.workers.waker import Waker

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from django_wsgiserve.config import ServerConfig
    from django_wsgiserve.events import EventBus
    from django_wsgiserve.scoreboard import Row
    from django_wsgiserve.sockets import Listener
    from django_wsgiserve.workers.connection import Connection
    from django_wsgiserve.workers.handoff import Handoff
    from django_wsgiserve.wsgi.environ import EnvironFactory
    from django_wsgiserve.wsgi.gateway import Gateway

_MAX_EVENTS = 64
# RFC 9112 section 9.6: read on for a while after the last response, or the kernel's RST
# for unread bytes may destroy the response on its way to the client.
_LINGER_S = 2.0
# How long a log line may wait for others to share its system call: under load that is one
# write for hundreds of lines, and too short for anybody who watches to notice.
_FLUSH_DELAY_S = 0.02
# How long complete requests are served one after another before orders, deadlines, the
# heartbeat and other clients' bytes get their turn.
_SERVING_S = 0.005
# How long all slots must have been busy before the stand-in takes the lead, and how long
# a worker must have been idle before the stand-in sleeps until it is woken.
_STAND_IN_S = 0.005
_PARK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a reactor serves, all of it made once per worker.

    `environs` has a factory for each listener. `flush_logs` writes what observers of the
    events hold back; `on_last_request` is called once, when `last_request` requests were
    served (0: never).
    """

    config: ServerConfig
    listeners: tuple[Listener, ...]
    environs: dict[Listener, EnvironFactory]
    gateway: Gateway
    events: EventBus
    row: Row
    flush_logs: Callable[[], None]
    last_request: int
    on_last_request: Callable[[], None]


class Reactor:
    """Waits for events, serves complete requests in turn, starts and stops accepting."""

    def __init__(self, site: Site) -> None:
        """Store; `open` registers, `run` starts the threads."""
        config = site.config
        self._config = config
        self._events = site.events
        self._row = site.row
        self._idle_at = site.row.idle_at
        self._environs = site.environs
        self._listeners = {listener.name: listener for listener in site.listeners}
        self._flush_logs = site.flush_logs
        self._last_request = site.last_request
        self._on_last_request = site.on_last_request
        self._on_timed_out = site.on_timed_out
        self._handoff = site.handoff
        self._siblings = site.siblings
        self._departing = False
        self._acceptor = Acceptor(site.listeners, site.events, self.adopt)
        self._clock = Clock(server_header=config.server_header)
        self._poller = new_poller()
        self._wait = self._poller.wait
        self._sources: dict[int, Callable[[], None]] = {}
        self._traffic = Traffic(config, site.events, self._clock, self._poller)
        self._traffic.on_pressure = self._relieve
        self._slots = [
            RequestSlot(cell, site.gateway, self._clock)
            for cell in site.row.cells[: site.request_slots]
        ]
        self._waker = Waker()
        self._lead = threading.Lock()
        self._lead_wanted = False
        self._standing_in = False
        self._parked = False
        self._unpark = threading.Event()
        self._waiting = False
        self._most_connections = config.worker_connections
        self._turns = 0
        self._turn_by_s = 0.0
        self._opened = False
        self._accepting = False
        self._quitting = False
        self._retiring = False
        self._keeps_alive = config.keepalive_s > 0
        self._leave_by_s = 0.0

    @property
    def served(self) -> int:
        """Requests the application was called for."""
        return sum(slot.served for slot in self._slots)

    # -- threads ----------------------------------------------------------------------------

    def open(self) -> None:
        """Start to accept."""
        self._opened = True
        self._acceptor.open()
        self._tick()

    def run(self) -> None:
        """Serve until `quit`, or until `retire` has been asked for and nothing is left to do.

        The calling thread is the first slot: with one slot, a project's code runs in the
        main thread, as it does everywhere else.
        """
        self._waker.open(self.add_source)
        threads = [
            threading.Thread(target=self._take_part, args=(slot,), name=f"request-{number}")
            for number, slot in enumerate(self._slots[1:], 1)
        ]
        threads.append(threading.Thread(target=self._stand_in, name="stand-in"))
        for thread in threads:
            thread.daemon = True  # one that is stuck must not keep the process from ending
            thread.start()
        self._take_part(self._slots[0])
        self._traffic.abort_all()

    def _take_part(self, slot: RequestSlot) -> None:
        """Lead, serve, lead again: the life of a request thread."""
        slot.take_possession()
        traffic = self._traffic
        while True:
            connection = self._lead_to_request()
            if connection is None:
                return
            if self._parked:
                self._parked = False
                self._unpark.set()
            slot.serve(connection, keep_alive=self._keeps_alive)
            if connection.state is State.CLOSED:  # it timed out, and was answered then
                continue
            if connection.gone or connection.output.items:
                traffic.send_rest(connection)
            else:
                traffic.complete(connection)
            if self._waiting and (traffic.again or self._retiring):
                self._waker.wake()
            if self._last_request and self.served >= self._last_request:
                self._last_request = 0
                self._on_last_request()

    def _lead_to_request(self) -> Connection | None:
        """Take the lead until a request is complete; return it, or `None` to leave."""
        lead = self._lead
        if not lead.acquire(blocking=False):
            self._lead_wanted = True
            if self._standing_in:
                self._waker.wake()
            lead.acquire()
        self._lead_wanted = False
        try:
            turned = False
            while True:
                if turned or self._clock.now_s < self._turn_by_s:
                    connection = self._traffic.next_request()
                    if connection is not None:
                        return connection
                if self._is_over():
                    return None
                self._turn()
                turned = True
                self._turn_by_s = self._clock.now_s + _SERVING_S
                if self._handoff is not None and len(self._traffic.ready) > 1:
                    self._share()
        finally:
            lead.release()

    def _is_over(self) -> bool:
        return self._quitting or (
            self._retiring
            and not self._traffic.connections
            and all(slot.connection is None for slot in self._slots)
        )

    def _stand_in(self) -> None:
        """Watch that somebody leads. Never runs application code."""
        seen, idle_since_s = -1, 0.0
        while not self._is_over():
            time.sleep(_STAND_IN_S)
            if self._turns != seen or any(slot.connection for slot in self._slots):
                idle_since_s = 0.0
            elif not idle_since_s:
                idle_since_s = time.monotonic()
            elif time.monotonic() - idle_since_s > _PARK_S:
                self._unpark.clear()
                self._parked = True
                self._unpark.wait()
            if self._turns == seen and not self._lead.locked():
                self._standing_in = True
                if self._lead.acquire(blocking=False):
                    try:
                        self._lead_meanwhile()
                    finally:
                        self._lead.release()
                self._standing_in = False
            seen = self._turns

    def _lead_meanwhile(self) -> None:
        """Lead until a slot is free: no new connections, and those that can go, go."""
        self._stop_accepting()
        self._clock.now_s = time.monotonic()
        while not self._lead_wanted and not self._is_over():
            ready = self._traffic.ready
            if ready and any(row.state is RowState.SERVING for row in self._siblings):
                while ready and self._give(ready[0]):
                    ready.popleft()
            self._turn()

    def _relieve(self, connection: Connection) -> None:
        """Wait until `connection` has taken all that is held for it, or its client has left.

        Called below the application, when a response fills its spool: the slot stays
        taken, whoever leads flushes.
        """
        slot = next((slot for slot in self._slots if slot.connection is connection), None)
        if slot is None:  # a few bytes of ours; nobody can wait
            return
        waits_since_s = time.monotonic()
        started_s = slot.cell.suspend()
        connection.relief = relief = threading.Event()
        connection.deadline_s = waits_since_s + self._config.write_timeout_s
        self._traffic.again.append(connection)
        if self._waiting:
            self._waker.wake()
        relief.wait()
        connection.relief = None
        connection.deadline_s = 0.0
        slot.cell.resume(started_s + time.monotonic() - waits_since_s)

    # -- the loop ---------------------------------------------------------------------------

    def add_source(self, fd: int, callback: Callable[[], None], *, exclusive: bool = False) -> None:
        """Call `callback` whenever `fd` is readable."""
        self._sources[fd] = callback
        self._poller.add_source(fd, exclusive=exclusive)

    def remove_source(self, fd: int) -> None:
        """Forget a source; call it before the descriptor is closed."""
        del self._sources[fd]
        self._poller.remove(fd)

    def _turn(self) -> None:
        """Wait for events, or only look when there is more to do, and carry them out."""
        clock, traffic = self._clock, self._traffic
        self._turns += 1
        self._waiting = True  # before the look at what others may add: see `Waker`
        timeout_s = clock.due_s - clock.now_s
        if self._standing_in:
            idle = not traffic.again and not self._lead_wanted
        else:
            idle = not traffic.again and not traffic.ready and not traffic.runnable
        if timeout_s < 0.0 or not idle:  # negative: wait for ever
            timeout_s = 0.0
        elif self._accepting:
            self._row.words[self._idle_at] = 1
        ready = self._wait(timeout_s, _MAX_EVENTS)
        self._waiting = False
        self._row.words[self._idle_at] = 0
        clock.now_s = now_s = time.monotonic()
        if now_s >= clock.due_s:
            self._on_due()
        connections = traffic.connections
        for fd, mask in ready:
            if fd in connections:
                traffic.on_event(connections[fd], mask)
            elif fd in self._sources:  # not: closed earlier in this very turn
                self._sources[fd]()
        if traffic.again:
            traffic.go_on()
        if self._departing:
            self._depart()
        if not self._accepting:
            self._start_accepting()
        elif self._acceptor.retry_at_s > now_s or len(connections) >= self._most_connections:
            self._stop_accepting()

    def _on_due(self) -> None:
        clock = self._clock
        if clock.flush_at_s and clock.now_s >= clock.flush_at_s:
            clock.flush_at_s = 0.0
            self._flush_logs()
        if clock.now_s >= clock.next_tick_s:
            self._tick()
        clock.due_s = min(clock.next_tick_s, clock.flush_at_s or clock.next_tick_s)

    def _tick(self) -> None:
        """Do what is due once a second: heartbeat, date, deadlines."""
        now_s = self._clock.now_s
        self._clock.tick(now_s)
        self._flush_logs()
        self._row.beat(now_s)
        self._row.count_connections(len(self._traffic.connections))
        self._traffic.expire_overdue()
        if self._config.timeout_s:
            for slot in self._slots:
                self._judge(slot, now_s)
        if self._retiring and now_s >= self._leave_by_s:
            self._leave()

    def _judge(self, slot: RequestSlot, now_s: float) -> None:
        """End a request that has run for too long, as far as its client is concerned.

        The slot stays lost until the application returns; so the worker asks to be
        replaced, and its other slots finish what they have.
        """
        connection, started_s = slot.connection, slot.cell.started_s
        if connection is None or not started_s or now_s - started_s <= self._config.timeout_s:
            return
        request, view, stack = connection.request, slot.cell.view, slot.stack()
        slot.cell.suspend()
        answered = self._traffic.time_out(connection)
        what = "" if request is None else f"{request.method} {request.path}"
        self._events.notice(
            ERROR,
            f"{what}{f' ({view})' if view else ''} has been running for {now_s - started_s:.1f} s,"
            f" longer than TIMEOUT ({self._config.timeout_s:g} s):"
            f" {'its client got a 503' if answered else 'its response was broken off'},"
            " the worker is replaced",
            stack,
            request=what,
            view=view,
        )
        self._on_timed_out(what)

    # -- accepting and handing over ---------------------------------------------------------

    def adopt(self, sock: socket.socket, peer: tuple[str, str], listener: Listener) -> Connection:
        """Serve a connected socket, owned from here on, as if it had been accepted."""
        connection = self._traffic.adopt(sock, peer, self._environs[listener])
        connection.listener_name = listener.name
        return connection

    def _start_accepting(self) -> None:
        """Accept, unless there is a reason not to."""
        if self._retiring or self._standing_in or not self._opened:
            return
        has_room = len(self._traffic.connections) < self._most_connections
        if has_room and self._acceptor.retry_at_s <= self._clock.now_s:
            self._accepting = True
            for fd, accept in self._acceptor.sources():
                self.add_source(fd, accept, exclusive=True)
            if self._handoff is not None:
                self.add_source(self._handoff.fileno(), self._take, exclusive=True)

    def _stop_accepting(self) -> None:
        if self._accepting:
            self._accepting = False
            for fd, _ in self._acceptor.sources():
                self.remove_source(fd)
            if self._handoff is not None:
                self.remove_source(self._handoff.fileno())

    def _take(self) -> bool:
        """Take a connection that another worker could not serve. False: none was there."""
        taken = None if self._handoff is None else self._handoff.take()
        if taken is None:
            return False
        sock, peer, name = taken
        listener = self._listeners.get(name)
        if listener is None:  # of a generation with other addresses
            sock.close()
        else:
            connection = self.adopt(sock, peer, listener)
            connection.deadline_s = self._clock.now_s + self._config.keepalive_s
        return True

    def _give(self, connection: Connection) -> bool:
        """Hand a connection to whoever takes it. False: it stays."""
        handoff = self._handoff
        if handoff is None or not handoff.give(connection):
            if handoff is not None and handoff.refused is not None:
                self._handoff = None
                self._events.notice(
                    WARNING,
                    f"connections stay with their workers: the system does not pass"
                    f" descriptors ({handoff.refused})",
                )
            return False
        self._traffic.forget(connection)
        self._row.count_handoff()
        return True

    def _share(self) -> None:
        """Hand what is more than the free slots can take to workers that wait for events."""
        ready = self._traffic.ready
        surplus = len(ready) - sum(slot.connection is None for slot in self._slots)
        if surplus > 0:
            idle = sum(row.idle for row in self._siblings)
            for _ in range(min(surplus, idle)):
                if not self._give(ready[-1]):
                    break
                ready.pop()

    # -- leaving ----------------------------------------------------------------------------

    def announce_close(self) -> None:
        """Let every response from now on say `Connection: close`, also one that is being made.

        Safe in a signal handler.
        """
        self._keeps_alive = False
        for slot in self._slots:
            slot.announce_close()

    def quit(self) -> None:
        """Leave the loop as soon as the running requests allow."""
        self._quitting = True
        self._traffic.give_up_relief()

    def retire(self, *, stop: bool) -> None:
        """Accept no more, finish what was begun, then leave `run`.

        Connections move to other workers as soon as they are idle. Where they cannot,
        they are kept until they have sent one more request, which is answered with
        `Connection: close`: closing them now would lose a request that is on its way.

        Args:
            stop: Nobody stays to serve: take what waits in the backlog, and close
                connections that are idle now.
        """
        if not self._retiring:
            self._retiring = True
            self._departing = not stop and self._handoff is not None
            self._stop_accepting()
            # A second before the supervisor loses its patience.
            self._leave_by_s = self._clock.now_s + max(0.0, self._config.graceful_timeout_s - 1.0)
        if not self._departing:
            self.announce_close()
        if stop and not self._traffic.stopping:
            self._departing = False
            self.announce_close()
            if self._opened:
                self._acceptor.drain_backlog()
                while self._take():
                    pass
            self._traffic.drop_idle()

    def _depart(self) -> None:
        """Hand over what is idle now; what finds the queue full is tried again soon."""
        for connection in list(self._traffic.connections.values()):
            if can_travel(connection) and not self._give(connection):
                if self._handoff is None:
                    self._departing = False
                    self.announce_close()
                self._clock.due_s = min(self._clock.due_s, self._clock.now_s + _HANDOVER_S)
                return

    def _leave(self) -> None:
        """Wait for no more requests; a second later, for no more readers either.

        The supervisor would say so, too, but it may be what is gone.
        """
        self._traffic.abort_unfinished()
        if self._clock.now_s >= self._leave_by_s + 1.0:
            self.quit()
