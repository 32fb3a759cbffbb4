"""Which connections leave for other workers, and which come from them.

A connection moves when it could be served elsewhere and not here: because no slot is
free, because more have something to say than slots are free while another worker has
nothing to do, or because this worker leaves. How one moves is `handoff.py`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_wsgiserve.events import WARNING
from django_wsgiserve.workers.connection import State
from django_wsgiserve.workers.handoff import can_travel

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from django_wsgiserve.events import EventBus
    from django_wsgiserve.scoreboard import Row
    from django_wsgiserve.workers.connection import Connection
    from django_wsgiserve.workers.handoff import Handoff
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
            events: Told when the system turns out not to pass descriptors.
        """
        self._handoff = handoff
        self._row = row
        self._words = row.words  # all rows are in it
        self._siblings = siblings
        self._idle_at = [sibling.idle_at for sibling in siblings]
        self._traffic = traffic
        self._events = events
        self.open = handoff is not None
        """Whether connections can be given."""

    def fileno(self) -> int:
        """What is readable when another worker gives a connection; -1: none ever does."""
        return -1 if self._handoff is None else self._handoff.fileno()

    def take(self) -> tuple[socket.socket, tuple[str, str], str] | None:
        """Return a connection given by another worker: socket, peer, name of its listener."""
        return None if self._handoff is None else self._handoff.take()

    def give(self, connection: Connection) -> bool:
        """Hand a connection to whoever takes it. False: it stays here."""
        handoff = self._handoff
        if not self.open or handoff is None:
            return False
        if not handoff.give(connection):
            if handoff.refused is not None:
                self.open = False
                self._events.notice(
                    WARNING,
                    "connections stay with their workers: the system does not pass"
                    f" descriptors ({handoff.refused})",
                )
            return False
        self._traffic.forget(connection)
        self._row.count_handoff()
        return True

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
                if connection.state is not State.IDLE:
                    continue  # it has left, or is being served already
                if not self.give(connection):
                    ready.append(connection)
                    return
                idle -= 1

    def pass_on(self) -> bool:
        """Give everything that waits for a slot here. False: the queue is full for now."""
        traffic = self._traffic
        traffic.drop_the_left()
        if not traffic.ready or not self.open or not self._someone_serves():
            return True
        while traffic.ready:
            if not can_travel(traffic.ready[0]):
                return True
            if not self.give(traffic.ready[0]):
                return not self.open
            traffic.drop_the_left()
        return True

    def _someone_serves(self) -> bool:
        return any(sibling.serves for sibling in self._siblings)

    def depart(self) -> bool:
        """Give every idle connection. False: the queue is full for now."""
        for connection in list(self._traffic.connections.values()):
            if can_travel(connection) and not self.give(connection):
                return not self.open
        return True
