"""Which connections leave for other workers, and which come from them.

A connection moves when it could be served elsewhere and not here: because no slot is
free, because more have something to say than slots are free while another worker has
nothing to do, or because this worker leaves. How one moves is `handoff.py`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_wsgiserve.events import ERROR, WARNING
from django_wsgiserve.workers.connection import State
from django_wsgiserve.workers.handoff import can_travel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_wsgiserve.events import EventBus
    from django_wsgiserve.scoreboard import Row
    from django_wsgiserve.workers.connection import Connection
    from django_wsgiserve.workers.handoff import Arrival, Handoff
    from django_wsgiserve.workers.traffic import Traffic


class Exchange:
    """A worker's part in the traffic between workers; only its leader calls it."""

    def __init__(
        self,
        handoff: Handoff | None,
        row: Row,
        siblings: Sequence[Row],
        traffic: Traffic,
        events: EventBus,
    ) -> None:
        """Store.

        Args:
            handoff: `None`: every connection stays where it is.
            row: This worker's.
            siblings: The rows of other workers, empty ones included.
            traffic: This worker's connections.
            events: Told when the system turns out not to pass descriptors, or has none left.
        """
        self._handoff = handoff
        self._row = row
        self._words = row.words  # all rows are in it
        self._siblings = siblings
        self._idle_at = [sibling.idle_at for sibling in siblings]
        self._traffic = traffic
        self._events = events
        self.open = handoff is not None and handoff.gives
        """Whether connections can be given."""
        self.starved = False
        """Whether the last `take` left what waits there, for want of a descriptor."""

    def fileno(self) -> int:
        """What is readable when another worker gives a connection; -1: none ever does."""
        return -1 if self._handoff is None else self._handoff.fileno()

    def take(self) -> Arrival | None:
        """Return a connection that another worker gave, if one waits."""
        handoff = self._handoff
        if handoff is None:
            return None
        arrival = handoff.take()
        self.starved = handoff.starved
        if handoff.starved:
            self._events.notice(
                ERROR, "no descriptor is left for connections of other workers; they wait"
            )
        elif handoff.mishap:
            self._stay_put(f"one was lost on its way: {handoff.mishap}")
        return arrival

    def oldest_s(self) -> float:
        """Since when the next connection that `take` would return has waited (monotonic)."""
        return float("inf") if self._handoff is None else self._handoff.oldest_s()

    def give(self, connection: Connection) -> bool:
        """Hand a connection to whoever takes it. False: it stays here."""
        handoff = self._handoff
        if not self.open or handoff is None:
            return False
        if not handoff.give(connection):
            if handoff.refused is not None:
                self._stay_put(f"the system does not pass descriptors ({handoff.refused})")
            return False
        self._traffic.forget(connection)
        self._row.count_handoff()
        return True

    def _stay_put(self, reason: str) -> None:
        """Give no more, and say why, once."""
        if self.open:
            self.open = False
            self._events.notice(WARNING, f"connections stay with their workers: {reason}")

    def share(self, free_slots: int) -> None:
        """Give what is more than the free slots can take to workers that wait for events."""
        ready = self._traffic.ready
        surplus = len(ready) - free_slots
        if surplus > 0:
            words = self._words
            idle = len([at for at in self._idle_at if words[at]])
            while surplus > 0 and idle > 0:
                connection = ready.pop()
                surplus -= 1
                if not _waits(connection):
                    continue
                if not self.give(connection):
                    ready.append(connection)
                    return
                idle -= 1

    def pass_on(self) -> bool:
        """Give everything that waits for a slot here. False: the queue is full for now."""
        ready = self._traffic.ready
        if not ready or not self.open or not self.someone_serves():
            return True
        staying = []
        fits = True
        while ready and fits:
            connection = ready.popleft()
            if not _waits(connection):
                continue
            if not can_travel(connection):
                staying.append(connection)
            elif not self.give(connection):
                staying.append(connection)
                fits = False
        ready.extendleft(reversed(staying))
        return fits or not self.open

    def someone_serves(self) -> bool:
        """Whether another worker takes connections."""
        return any(sibling.serves for sibling in self._siblings)

    def depart(self) -> bool:
        """Give every idle connection. False: not all, because the queue is full for now."""
        for connection in list(self._traffic.connections.values()):
            if can_travel(connection) and not self.give(connection):
                return not self.open
        return True


def _waits(connection: Connection) -> bool:
    """Whether one of `Traffic.ready` is to be served still: it may have left since."""
    return connection.unread and connection.state is State.IDLE
