"""What every worker is doing, in memory that survives the worker.

One anonymous memory file, mapped by the supervisor, the forkservers and the workers:
a row for each worker slot, in it a cell for each request the worker can run at once.
A row has one writer (its worker), except for `order`, which only the supervisor
writes; a cell has one writer (the request thread that owns it). So there is no lock,
and a store is one item assignment. A reader may see a path beside the time of the
request before it; nothing decides anything by the path.

It counts and describes; it does not decide. `supervisor/plan.py` does.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from dataclasses import dataclass
from enum import IntEnum

_TARGET_BYTES = 272
_VIEW_BYTES = 144
_HEADER_BYTES = 64
_CELL_BYTES = 448

# Indexes of 8-byte words within a row's header and a cell: read and written through
# memoryviews cast to "d" or "Q", which costs no function call.
_PID, _GENERATION, _STATE, _ORDER, _HEARTBEAT, _CONNECTIONS, _HANDOFFS, _IDLE = range(8)
_STARTED, _REQUESTS, _ERRORS, _TIMEOUT = range(4)
# What a cell says of its request, beside its times: the limit and the view, which are told
# together once the URL is resolved, and the target. Three stores would be three calls.
_NAMES_OFFSET = _TIMEOUT * 8
_NAMES = struct.Struct(f"d{_VIEW_BYTES}s{_TARGET_BYTES}s")
_VIEW = struct.Struct(f"d{_VIEW_BYTES}s")


class State(IntEnum):
    """What a worker says of itself."""

    EMPTY = 0
    BOOTING = 1
    SERVING = 2
    RETIRING = 3


class Order(IntEnum):
    """What the supervisor wants of a worker; read on SIGUSR2."""

    NONE = 0
    RETIRE = 1
    """Others go on: stop accepting, finish, leave."""
    STOP = 2
    """Everybody leaves: take what waits in the backlog, finish, leave."""
    QUIT = 3
    """Leave as soon as the running request allows; SIGKILL follows soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStatus:
    """A request that is running. `started_s` is `time.monotonic()`; `view` may be empty.

    `timeout_s` is the limit of its view, infinite for none; 0.0 where TIMEOUT holds.
    """

    started_s: float
    method: str
    path: str
    view: str
    timeout_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A row, read once. `heartbeat_s` is `time.monotonic()`, 0.0 before the first beat."""

    slot: int
    pid: int
    generation: int
    state: State
    order: Order
    heartbeat_s: float
    running: tuple[RequestStatus, ...]
    requests: int
    errors: int
    connections: int
    handoffs: int

    @property
    def oldest(self) -> RequestStatus | None:
        """The request that has been running for the longest time, if any is."""
        return min(self.running, key=lambda request: request.started_s, default=None)

    def first_due(self, timeout_s: float) -> RequestStatus | None:
        """Return the running request that outruns its limit first; `None`: none runs.

        Args:
            timeout_s: The limit of those whose view has none of its own; 0.0 for none.
        """

        def due(request: RequestStatus) -> tuple[float, float]:
            return (
                request.started_s + (request.timeout_s or timeout_s or math.inf),
                request.started_s,
            )

        return min(self.running, key=due, default=None)


class Cell:
    """The place of one running request; one request thread writes it."""

    __slots__ = ("_doubles", "_index", "_memory", "_names_at", "_words", "name_view")

    def __init__(self, row: Row, offset: int) -> None:
        self._memory = row.memory
        self._doubles = row.doubles
        self._words = row.words
        self._index = offset // 8
        self._names_at = offset + _NAMES_OFFSET
        # Bound once: it goes into every environ.
        self.name_view = self._name_view

    def begin(self, now_s: float, method: str, path: str) -> None:
        """Note that a request starts; `method` and `path` are Latin-1, cut where too long.

        Its view is not known yet, and TIMEOUT is its limit.
        """
        target = f"{method} {path}".encode("latin-1")
        _NAMES.pack_into(self._memory, self._names_at, 0.0, b"", target)
        self._doubles[self._index + _STARTED] = now_s

    @property
    def started_s(self) -> float:
        """When the request started (monotonic); 0.0: none runs, or its clock stands still."""
        return self._doubles[self._index + _STARTED]

    @property
    def timeout_s(self) -> float:
        """How long its view lets it run, from its start, infinite for no limit; 0.0: TIMEOUT."""
        return self._doubles[self._index + _TIMEOUT]

    @property
    def view(self) -> str:
        """The view that answers, as far as it is known."""
        view: bytes = _VIEW.unpack_from(self._memory, self._names_at)[1]
        return view.rstrip(b"\0").decode("utf-8", "replace")

    def suspend(self) -> float:
        """Stop the clock of TIMEOUT: the request waits for its client, not for its view.

        Returns:
            When the request had started, for `resume`.
        """
        started_s = self._doubles[self._index + _STARTED]
        self._doubles[self._index + _STARTED] = 0.0
        return started_s

    def resume(self, started_s: float) -> None:
        """Let the clock go on as if the request had started at `started_s`."""
        self._doubles[self._index + _STARTED] = started_s

    def end(self, *, failed: bool) -> None:
        """Note that the request is over; `failed` when the answer was a 5xx or none."""
        index = self._index
        self._doubles[index + _STARTED] = 0.0
        self._words[index + _REQUESTS] += 1
        if failed:
            self._words[index + _ERRORS] += 1

    def _name_view(self, name: str, timeout_s: float = 0.0) -> None:
        """Note the view that answers, as a dotted name, cut where too long; and its limit.

        Args:
            name: In words of the log.
            timeout_s: How long the request may run, from its start; infinite for no limit,
                0.0 for that of TIMEOUT.
        """
        view = name.encode("utf-8", "replace")
        _VIEW.pack_into(self._memory, self._names_at, timeout_s, view)


class Row:
    """A handle on one worker's row."""

    __slots__ = ("_base", "_cells", "_requests", "doubles", "memory", "slot", "words")

    def __init__(self, memory: mmap.mmap, slot: int, requests: int) -> None:
        view = memoryview(memory)
        self.memory = memory
        self.doubles = view.cast("d")
        self.words = view.cast("Q")
        self.slot = slot
        start = slot * _row_bytes(requests)
        self._base = start // 8
        self._requests = requests
        self._cells: tuple[Cell, ...] = ()

    @property
    def cells(self) -> tuple[Cell, ...]:
        """A cell for each request. Made when asked for: a worker looks at others' headers only."""
        if not self._cells:
            start = self._base * 8 + _HEADER_BYTES
            self._cells = tuple(
                Cell(self, start + number * _CELL_BYTES) for number in range(self._requests)
            )
        return self._cells

    def occupy(self, pid: int, generation: int) -> None:
        """Take the row for a worker that is starting; counters begin at zero."""
        # All but the order, which has another writer: the supervisor may stop a worker in
        # the very moment in which it starts.
        after_order = (self._base + _ORDER + 1) * 8
        end = self._base * 8 + _HEADER_BYTES + self._requests * _CELL_BYTES
        for word in range(_ORDER):
            self.words[self._base + word] = 0
        self.memory[after_order:end] = bytes(end - after_order)
        self.words[self._base + _GENERATION] = generation
        self.words[self._base + _STATE] = State.BOOTING
        self.words[self._base + _PID] = pid

    def clear(self) -> None:
        """Empty the row. The supervisor does, once the worker is gone and reported on."""
        start = self._base * 8
        size = _HEADER_BYTES + self._requests * _CELL_BYTES
        self.memory[start : start + size] = bytes(size)

    def beat(self, now_s: float) -> None:
        """Say that the worker's loop turns."""
        self.doubles[self._base + _HEARTBEAT] = now_s

    @property
    def order(self) -> Order:
        """What the supervisor wants of this worker."""
        return Order(self.words[self._base + _ORDER])

    @order.setter
    def order(self, order: Order) -> None:
        self.words[self._base + _ORDER] = order

    @property
    def state(self) -> State:
        """What the worker said of itself last."""
        return State(self.words[self._base + _STATE])

    @state.setter
    def state(self, state: State) -> None:
        self.words[self._base + _STATE] = state

    def count_connections(self, connections: int) -> None:
        """Say how many client connections are open."""
        self.words[self._base + _CONNECTIONS] = connections

    def count_handoff(self) -> None:
        """Count a connection given to another worker."""
        self.words[self._base + _HANDOFFS] += 1

    @property
    def idle_at(self) -> int:
        """The index in `words` of 1 while the worker waits for events with a slot free, else 0.

        It is written around every wait, so it is an item assignment and no method.
        """
        return self._base + _IDLE

    @property
    def idle(self) -> bool:
        """Whether a serving worker waits for something to do. For other workers' guesses only."""
        return self.words[self._base + _IDLE] == 1 and self.serves

    @property
    def serves(self) -> bool:
        """Whether its worker takes connections."""
        return self.words[self._base + _STATE] == State.SERVING

    def status(self) -> WorkerStatus:
        """Return the row as a value."""
        words = self.words[self._base : self._base + _HEADER_BYTES // 8]
        running = []
        requests = errors = 0
        for cell in self.cells:
            requests += self.words[cell._index + _REQUESTS]
            errors += self.words[cell._index + _ERRORS]
            started_s = self.doubles[cell._index + _STARTED]
            if started_s:
                timeout_s, view, target = _NAMES.unpack_from(self.memory, cell._names_at)
                method, _, path = target.rstrip(b"\0").decode("latin-1").partition(" ")
                running.append(
                    RequestStatus(
                        started_s=started_s,
                        method=method,
                        path=path,
                        view=view.rstrip(b"\0").decode("utf-8", "replace"),
                        timeout_s=timeout_s,
                    )
                )
        return WorkerStatus(
            slot=self.slot,
            pid=words[_PID],
            generation=words[_GENERATION],
            state=State(words[_STATE]),
            order=Order(words[_ORDER]),
            heartbeat_s=self.doubles[self._base + _HEARTBEAT],
            running=tuple(running),
            requests=requests,
            errors=errors,
            connections=words[_CONNECTIONS],
            handoffs=words[_HANDOFFS],
        )


class Scoreboard:
    """All rows. Made by the supervisor, attached to by descriptor after an exec."""

    def __init__(self, fd: int, slots: int, requests: int) -> None:
        """Map the memory file `fd` of `slots` rows with `requests` cells each."""
        self.fd = fd
        self.slots = slots
        self.requests = requests
        self._memory = mmap.mmap(fd, slots * _row_bytes(requests))
        self._rows: dict[int, Row] = {}

    @classmethod
    def create(cls, slots: int, requests: int = 1) -> Scoreboard:
        """Make an empty scoreboard in anonymous memory; `fd` is not inheritable by itself."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("wsgiserve-scoreboard", os.MFD_CLOEXEC)
        else:  # not Linux: an unlinked file serves the same end
            import tempfile  # here, since it is a MiB that the supervisor would keep

            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, slots * _row_bytes(requests))
        return cls(fd, slots, requests)

    @classmethod
    def attach(cls, fd: int, slots: int, requests: int = 1) -> Scoreboard:
        """Map a scoreboard that another process made with the same `slots` and `requests`."""
        return cls(fd, slots, requests)

    def row(self, slot: int) -> Row:
        """Return the handle on a row, the same one each time."""
        row = self._rows.get(slot)
        if row is None:
            row = self._rows[slot] = Row(self._memory, slot, self.requests)
        return row


def _row_bytes(requests: int) -> int:
    return _HEADER_BYTES + requests * _CELL_BYTES
