"""A reactor that runs in a thread of the test, with everything it tells written down.

The test is the client. It talks to the loop by messages: `call` runs something in the
loop's thread and returns its result, `wait_for` waits for an event with a deadline.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django_wsgiserve.config import ServerConfig
from django_wsgiserve.events import AppFailed, EventBus, Notice, RequestFinished, RequestRejected
from django_wsgiserve.scoreboard import Scoreboard
from django_wsgiserve.sockets import Listener
from django_wsgiserve.workers.connection import TRANSITIONS, Connection, State
from django_wsgiserve.workers.handoff import Handoff
from django_wsgiserve.workers.reactor import Reactor
from django_wsgiserve.workers.site import Site
from django_wsgiserve.wsgi.environ import EnvironFactory
from django_wsgiserve.wsgi.gateway import Gateway

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

DEADLINE_S = 20.0
"""How long a test waits for what must come; on a busy machine it comes late, but it comes."""

T = TypeVar("T")
E = TypeVar("E")


class CheckedConnection(Connection):
    """A connection that refuses every change of state that `TRANSITIONS` does not list."""

    seen: ClassVar[set[tuple[State, State]]] = set()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "state":
            before = getattr(self, "state", None)
            if before is not None and before is not value:
                self.seen.add((before, value))
                assert value in TRANSITIONS[before], f"{before.name} became {value.name}"
        super().__setattr__(name, value)


def hello(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
    """Answer with the path, so that a mixed-up answer shows."""
    body = environ["PATH_INFO"].encode("latin-1")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a reactor stands among others, and how many requests it runs at once."""

    request_slots: int = 1
    last_request: int = 0
    handoff: Handoff | None = None
    board: Scoreboard | None = None
    slot: int = 0


class Served:
    """A reactor, its thread, and what it said."""

    def __init__(
        self,
        application: WSGIApplication,
        config: ServerConfig,
        listeners: tuple[Listener, ...],
        place: Place,
    ) -> None:
        """Build; `start` runs it."""
        self.events = EventBus()
        self.log: deque[object] = deque()
        self._logged = threading.Condition()
        for event_type in (RequestFinished, RequestRejected, AppFailed, Notice):
            self.events.subscribe(event_type, self._note)
        self.board = place.board or Scoreboard.create(2, 16)
        self.row = self.board.row(place.slot)
        self.request_slots = place.request_slots
        self.timed_out: list[str] = []
        self.listeners = listeners
        self.turns = 0
        self.last_requests = 0
        self.before_wait: Callable[[], None] = lambda: None
        self.reactor = Reactor(
            Site(
                config=config,
                listeners=listeners,
                environs={
                    listener: EnvironFactory(
                        server_name=listener.server_name,
                        server_port=listener.server_port,
                        multithread=place.request_slots > 1,
                        multiprocess=True,
                    )
                    for listener in listeners
                },
                gateway=Gateway(application, self.events),
                events=self.events,
                row=self.row,
                flush_logs=lambda: None,
                last_request=place.last_request,
                on_last_request=self._on_last_request,
                on_timed_out=self.timed_out.append,
                request_slots=place.request_slots,
                handoff=place.handoff,
                siblings=tuple(
                    self.board.row(slot) for slot in range(self.board.slots) if slot != place.slot
                ),
            )
        )
        # Each turn waits once: a seam to count turns and to look in between.
        self._wait = self.reactor._wait
        self.reactor._wait = self._count_turn
        self.failure: BaseException | None = None
        self._calls: deque[Callable[[], None]] = deque()
        self._wakeup, self._wake = socket.socketpair()
        self.reactor.add_source(self._wakeup.fileno(), self._run_calls)
        self._thread = threading.Thread(target=self._run, name="reactor", daemon=True)

    def _on_last_request(self) -> None:
        self.last_requests += 1

    def _count_turn(self, timeout_s: float | None, max_events: int) -> list[tuple[int, int]]:
        self.turns += 1
        self.before_wait()
        return self._wait(timeout_s, max_events)

    def _note(self, event: object) -> None:
        with self._logged:
            self.log.append(event)
            self._logged.notify_all()

    def _run(self) -> None:
        try:
            self.reactor.run()
        except BaseException as failure:
            self.failure = failure
        with self._logged:
            self._logged.notify_all()
        self._run_calls_left()

    def _run_calls(self) -> None:
        self._wakeup.recv(1)
        self._calls.popleft()()

    def _run_calls_left(self) -> None:
        while self._calls:
            self._calls.popleft()()

    # -- what a test does ---------------------------------------------------------------------

    def start(self, *, accepting: bool = True) -> Served:
        """Let the loop turn."""
        if accepting:
            self.reactor.open()
        self._thread.start()
        return self

    @property
    def port(self) -> int:
        """Of the first listener."""
        return int(self.listeners[0].server_port)

    def connect(self) -> socket.socket:
        """Return a client of the first listener."""
        client = socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
        client.settimeout(DEADLINE_S)
        return client

    def pair(self, *, silent: bool = False) -> socket.socket:
        """Return a client over a socketpair, adopted by the loop."""
        client, server = socket.socketpair()
        client.settimeout(DEADLINE_S)
        self.adopt(server, silent=silent)
        return client

    def adopt(self, server: socket.socket, *, silent: bool = False) -> None:
        """Give the loop a connected socket."""

        def adopt() -> None:
            connection = self.reactor.adopt(server, ("192.0.2.7", "4711"), self.listeners[0])
            connection.silent = silent

        self.call(adopt)

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` in the loop's thread; return what it does."""
        done = threading.Event()
        results: list[T] = []

        def run() -> None:
            try:
                results.append(function())
            finally:
                done.set()

        self._calls.append(run)
        self._wake.send(b"!")
        assert done.wait(DEADLINE_S), "the loop does not turn"
        return results[0]

    def wait_for(self, event_type: type[E], number: int = 1) -> list[E]:
        """Wait until `number` events of a type have come; return all of that type."""
        with self._logged:
            found = self._logged.wait_for(
                lambda: self.failure is not None or len(self.of(event_type)) >= number, DEADLINE_S
            )
            assert self.failure is None, self.failure
            assert found, f"only {len(self.of(event_type))} of {number} {event_type.__name__}"
            return self.of(event_type)

    def of(self, event_type: type[E]) -> list[E]:
        """Return the events of a type so far."""
        return [event for event in list(self.log) if isinstance(event, event_type)]

    def finished(self, number: int = 1) -> list[RequestFinished]:
        """Wait for the ends of `number` requests."""
        return self.wait_for(RequestFinished, number)

    def connections(self) -> list[Connection]:
        """Return those that the loop holds now, looked at in its own thread."""
        return self.call(lambda: list(self.reactor._traffic.connections.values()))

    def wait_until(self, claim: Callable[[], bool]) -> None:
        """Let the loop turn until `claim`, which is asked in its thread, holds."""
        holds = threading.Event()
        original = self.before_wait

        def ask() -> None:
            original()
            if claim():
                holds.set()

        def install() -> None:
            self.before_wait = ask

        self.call(install)
        # Each call makes one more turn, so the claim is asked again at once.
        for _ in range(int(DEADLINE_S / 0.02)):
            if holds.wait(0.02):
                break
            self.call(lambda: None)
        self.before_wait = original
        assert holds.is_set(), "it never came true"

    @property
    def relieving(self) -> bool:
        """Whether an application waits for its client."""
        return any(c.relief for c in list(self.reactor._traffic.connections.values()))

    def retire(self, *, stop: bool) -> None:
        """Give the order in the loop's thread."""
        self.call(lambda: self.reactor.retire(stop=stop))

    def join(self) -> None:
        """Wait until the loop has ended by itself; raise what ended it."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the loop has not ended"
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """End the loop if it runs still, and give every descriptor back."""
        if self._thread.ident is not None:
            if self._thread.is_alive():
                self._calls.append(self.reactor.quit)
                self._wake.send(b"!")
            self._thread.join(DEADLINE_S)
            assert not self._thread.is_alive(), "the loop has not ended"
        for connection in list(self.reactor._traffic.connections.values()):
            if connection.state is not State.RUNNING:
                connection.close()
        self.reactor._poller.close()
        self._wakeup.close()
        self._wake.close()
        for listener in self.listeners:
            listener.close()
        if self.failure is not None:
            raise self.failure


def listen(*, address: str = "127.0.0.1") -> Listener:
    """Return a listener on a free port."""
    sock = socket.create_server((address, 0), backlog=2048)
    sock.setblocking(False)
    return Listener.of(sock, f"{address}:0")


def configured(**settings: Any) -> ServerConfig:
    """Return a configuration whose deadlines no test outruns by being slow."""
    patient = ServerConfig(
        header_timeout_s=600.0,
        body_timeout_s=600.0,
        write_timeout_s=600.0,
        keepalive_s=600.0,
        graceful_timeout_s=600.0,
    )
    return replace(patient, **settings)
