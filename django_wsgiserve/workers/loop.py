"""What a worker's leader does: waits for events and carries them out.

One poller, every connection, what is due once a second, accepting and leaving. Which
thread leads, and where the application runs, is `reactor.py`'s.

It knows nothing of signals, pipes to the supervisor or log files: those are sources
that `base.py` registers.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django_wsgiserve.events import ERROR
from django_wsgiserve.workers.acceptor import Acceptor
from django_wsgiserve.workers.clock import Clock
from django_wsgiserve.workers.connection import State
from django_wsgiserve.workers.exchange import Exchange
from django_wsgiserve.workers.poller import READABLE, WRITABLE, new_poller
from django_wsgiserve.workers.slots import RequestSlot
from django_wsgiserve.workers.traffic import Traffic
from django_wsgiserve.workers.waker import Waker

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from django_wsgiserve.sockets import Listener
    from django_wsgiserve.workers.connection import Connection
    from django_wsgiserve.workers.poller import EpollPoller, SelectorsPoller
    from django_wsgiserve.workers.site import Site

_MAX_EVENTS = 64
_IDLE = State.IDLE  # a global is cheaper than an attribute on the hot path
# When a full queue is tried again.
GIVE_AGAIN_S = 0.01


class Loop:
    """One worker's events; all of it is done by the thread that leads."""

    # What waiting and running mean is a worker class's own.
    _slot_class: type[RequestSlot] = RequestSlot

    def __init__(self, site: Site) -> None:
        """Store; `open` registers."""
        config = site.config
        self._site = site
        self._config = config
        self._events = site.events
        self._row = site.row
        self._words = site.row.words
        self._idle_at = site.row.idle_at
        self._listeners = {listener.name: listener for listener in site.listeners}
        self._environs = {listener.name: site.environs[listener] for listener in site.listeners}
        self._last_request = site.last_request
        self._acceptor = Acceptor(site.listeners, site.events, self.adopt)
        self._clock = Clock(server_header=config.server_header)
        self._poller = self._new_poller()
        self._wait = self._poller.wait
        # What an edge-triggered poller says of a client that has sent something.
        is_plain = self._poller.edge_triggered and not config.max_queue_wait_s
        self._usual_mask = READABLE | WRITABLE if is_plain else 0
        self._sources: dict[int, Callable[[], object]] = {}
        self._traffic = Traffic(config, site.events, self._clock, self._poller)
        self._exchange = Exchange(site.handoff, site.row, site.siblings, self._traffic, site.events)
        self._slots = [
            self._slot_class(cell, site.gateway, self._clock)
            for cell in site.row.cells[: site.request_slots]
        ]
        self._waker = Waker()
        self._waiting = False
        self._waits_until_s = 0.0
        self._standing_in = False
        self._opened = False
        self._accepting = False
        self._quitting = False
        self._retiring = False
        self._departing = False
        self._keeps_alive = config.keepalive_s > 0
        self._leave_by_s = 0.0

    def _new_poller(self) -> EpollPoller | SelectorsPoller:
        return new_poller()

    @property
    def served(self) -> int:
        """Requests the application was called for."""
        return sum(slot.served for slot in self._slots)

    def open(self) -> None:
        """Start to accept."""
        self._opened = True
        self._acceptor.open()
        self._tick()

    # -- the loop ---------------------------------------------------------------------------

    def add_source(
        self, fd: int, callback: Callable[[], object], *, exclusive: bool = False
    ) -> None:
        """Call `callback` whenever `fd` is readable."""
        self._sources[fd] = callback
        self._poller.add_source(fd, exclusive=exclusive)

    def remove_source(self, fd: int) -> None:
        """Forget a source; call it before the descriptor is closed."""
        del self._sources[fd]
        self._poller.remove(fd)

    def _turn(self) -> list[tuple[int, int]]:
        """Wait for events, or only look when there is more to do; carry them out, return them."""
        clock, traffic = self._clock, self._traffic
        if not self._accepting:
            self._start_accepting()
        self._waiting = True  # before the look at what others may add: see `Waker`
        self._waits_until_s = clock.due_s
        timeout_s = clock.due_s - clock.now_s
        # The stand-in has nobody to serve: what is ready waits for the kernel, or a slot.
        busy = self._lead_is_wanted() if self._standing_in else traffic.ready or traffic.runnable
        if timeout_s < 0.0 or traffic.again or busy:  # negative: wait for ever
            timeout_s = 0.0
        elif self._accepting and not self._standing_in:
            self._words[self._idle_at] = 1
        events = self._wait(timeout_s, _MAX_EVENTS)
        self._waiting = False
        self._words[self._idle_at] = 0
        clock.now_s = now_s = time.monotonic()
        if now_s >= clock.due_s:
            self._on_due()
        connections, ready, usual_mask = traffic.connections, traffic.ready, self._usual_mask
        for fd, mask in events:
            if fd not in connections:
                self._on_source(fd)
                continue
            connection = connections[fd]
            if mask == usual_mask and connection.state is _IDLE and not connection.unread:
                # `on_event` for what nearly always happens, without its calls.
                connection.unread = True
                connection.waits_since_s = now_s
                ready.append(connection)
            else:
                traffic.on_event(connection, mask)
        return events

    def catch_up(self) -> None:
        """Look at connections that no event announces: in `again`, or on their way out."""
        self._traffic.go_on()
        if self._departing:
            self._depart()

    def _on_source(self, fd: int) -> None:
        source = self._sources.get(fd)
        if source is not None:  # else: closed earlier in this very turn
            source()
            if self._acceptor.refused(self._clock.now_s) or not self._has_room:
                self._stop_accepting()

    def _on_due(self) -> None:
        clock = self._clock
        if clock.flush_at_s and clock.now_s >= clock.flush_at_s:
            clock.flush_at_s = 0.0
            self._site.flush_logs()
        if clock.now_s >= clock.next_tick_s:
            self._tick()
        due_s = min(clock.next_tick_s, self._traffic.shed())
        # In this order: another thread may set `flush_at_s`, and `due_s` after it.
        clock.due_s = due_s
        if clock.flush_at_s:
            clock.due_s = min(clock.due_s, clock.flush_at_s)

    def _tick(self) -> None:
        """Do what is due once a second: heartbeat, date, deadlines."""
        now_s = self._clock.now_s
        self._clock.tick(now_s)
        self._site.flush_logs()
        self._row.beat(now_s)
        self._row.count_connections(len(self._traffic.connections))
        self._traffic.expire_overdue()
        # Watched anew by the next turn: what comes wakes one worker, which may have died of
        # something else before it looked.
        self._stop_accepting()
        for slot in self._slots:
            self._judge(slot, now_s)
        self.look_at_last_request()
        if self._retiring and now_s >= self._leave_by_s:
            self._leave()

    def _judge(self, slot: RequestSlot, now_s: float) -> None:
        """End a request that has run for too long, as far as its client is concerned.

        What becomes of the slot, where the application goes on, is `_free`'s.
        """
        started_s = slot.cell.started_s
        own_limit_s = slot.cell.timeout_s
        limit_s = own_limit_s or self._config.timeout_s
        if not started_s or not 0 < limit_s < now_s - started_s:
            return
        view = slot.cell.view
        connection = slot.take_away(started_s)
        if connection is None or connection.request is None:
            return
        stack, sending = slot.where()
        answered = self._traffic.time_out(connection, may_answer=not sending)
        what = f"{connection.request.method} {connection.request.path}"
        shown = f"{what} ({view})" if view else what
        self._events.notice(
            ERROR,
            f"a request ran longer than TIMEOUT{' of its view' if own_limit_s else ''}"
            f" ({limit_s:g} s): {shown}, for"
            f" {now_s - started_s:.1f} s now; its client got"
            f" {'a 503' if answered else 'only a part of the response'},"
            f" and {self._free(slot, connection, shown)}",
            stack,
            request=what,
            view=view,
        )

    def _free(self, slot: RequestSlot, connection: Connection, request: str) -> str:
        """Get back a slot whose request has lost its client; say how, for people.

        A thread cannot be stopped: its slot is lost until the application returns. So the
        worker asks to be replaced, and its other slots finish what they have.
        """
        self._give_up(slot, connection, request)
        return "the worker is replaced"

    def _give_up(self, slot: RequestSlot, connection: Connection, request: str) -> None:
        """Ask for another worker, since a slot is lost; this one does not wait for it to leave."""
        slot.given_up = connection
        self._site.on_timed_out(request)

    # -- accepting --------------------------------------------------------------------------

    def adopt(self, sock: socket.socket, peer: tuple[str, str], listener: Listener) -> Connection:
        """Serve a connected socket, owned from here on, as if it had been accepted."""
        connection = self._traffic.adopt(sock, peer, self._environs[listener.name])
        connection.listener_name = listener.name
        return connection

    @property
    def _has_room(self) -> bool:
        return (
            len(self._traffic.connections) < self._config.worker_connections
            and self._acceptor.retry_at_s <= self._clock.now_s
        )

    @property
    def _accepts_to_refuse(self) -> bool:
        """Whether to accept while no slot is free: who waits in the backlog gets no 503.

        Not where a connection could not go from here to a worker that is free.
        """
        return self._config.max_queue_wait_s > 0 and (
            self._exchange.open or not self._exchange.someone_serves()
        )

    def _start_accepting(self) -> None:
        """Accept, unless there is a reason not to."""
        if self._retiring or not self._opened or not self._has_room:
            return
        if self._standing_in and not self._accepts_to_refuse:
            return
        self._accepting = True
        # Before the listeners: who is connected is served before who is not.
        if self._exchange.fileno() >= 0 and not self._standing_in:
            self.add_source(self._exchange.fileno(), self._take, exclusive=True)
        for fd, accept in self._acceptor.sources():
            self.add_source(fd, accept, exclusive=True)

    def _stop_accepting(self) -> None:
        if self._accepting:
            self._accepting = False
            for fd, _ in self._acceptor.sources():
                self.remove_source(fd)
            if self._exchange.fileno() in self._sources:
                self.remove_source(self._exchange.fileno())

    def _take(self) -> bool:
        """Take a connection that another worker could not serve. False: none was there."""
        arrival = self._exchange.take()
        if arrival is None:
            if self._exchange.starved:
                self._acceptor.hold_off()
            return False
        listener = self._listeners.get(arrival.listener_name)
        if listener is None:  # of a generation with other addresses
            arrival.sock.close()
        else:
            connection = self.adopt(arrival.sock, arrival.peer, listener)
            connection.deadline_s = arrival.deadline_s
            self._traffic.adopt_waiting(connection, arrival.since_s)
        return True

    # -- leaving ----------------------------------------------------------------------------

    def announce_close(self) -> None:
        """Let every response from now on say `Connection: close`, also one that is being made."""
        self._keeps_alive = self._traffic.keeps_alive = False
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
            self._departing = not stop and self._exchange.open
            self._stop_accepting()
            # A second before the supervisor loses its patience.
            self._leave_by_s = self._clock.now_s + max(0.0, self._config.graceful_timeout_s - 1.0)
        if stop:
            self._departing = False
            self._exchange.open = False  # nothing after the last look into the queue, below
        if not self._departing:
            self.announce_close()
        if stop and not self._traffic.stopping:
            self._traffic.stopping = True
            if self._opened:
                self._acceptor.drain_backlog()
                while self._take():
                    pass
            self._traffic.drop_idle()

    def _depart(self) -> None:
        """Hand over what is idle now; what finds the queue full is tried again soon."""
        clock, exchange = self._clock, self._exchange
        if not exchange.someone_serves():
            # All leave together, and the others may have had their last look into the queue.
            while self._take():
                pass
            clock.due_s = min(clock.due_s, clock.now_s + GIVE_AGAIN_S)
        elif not exchange.depart():
            clock.due_s = min(clock.due_s, clock.now_s + GIVE_AGAIN_S)
        elif not exchange.open:  # it turned out that the system does not allow it
            self._departing = False
            self.announce_close()

    def _leave(self) -> None:
        """Wait for no more requests; a second later, for no more readers either.

        The supervisor would say so, too, but it may be what is gone.
        """
        self._traffic.abort_unfinished()
        if self._clock.now_s >= self._leave_by_s + 1.0:
            self.quit()

    def is_over(self) -> bool:
        """Whether nothing is left to do for a worker that retires, but what is given up."""
        if self._quitting or not self._retiring:
            return self._quitting
        done = {None, *(slot.given_up for slot in self._slots if slot.is_stuck)}
        left = [*self._traffic.connections.values(), *(slot.connection for slot in self._slots)]
        return done.issuperset(left)

    def look_at_last_request(self) -> None:
        """Say once that as many requests were served as this worker should."""
        if self._last_request and self.served >= self._last_request:
            self._last_request = 0
            self._site.on_last_request()

    def _lead_is_wanted(self) -> bool:
        return any(slot.wants_lead for slot in self._slots)
