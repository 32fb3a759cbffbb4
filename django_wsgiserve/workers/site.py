"""What a worker's scheduler is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_wsgiserve.config import ServerConfig
    from django_wsgiserve.events import EventBus
    from django_wsgiserve.scoreboard import Row
    from django_wsgiserve.sockets import Listener
    from django_wsgiserve.workers.handoff import Handoff
    from django_wsgiserve.wsgi.environ import EnvironFactory
    from django_wsgiserve.wsgi.gateway import Gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a reactor serves, all of it made once per worker.

    `request_slots` is how many requests run at once. `environs` has a factory for each
    listener. `flush_logs` writes what observers of the events hold back;
    `on_last_request` is called once, when `last_request` requests were served (0: never),
    `on_timed_out` with a request that ran longer than TIMEOUT and goes on; `after_timeout`
    is called where one has been ended, `leave_main` to end the process where its main thread
    is stuck. `handoff` is `None` where connections stay with their worker; `siblings` are
    the rows of the others.
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
    on_timed_out: Callable[[str], None]
    after_timeout: Callable[[], None] = lambda: None
    leave_main: Callable[[], None] = lambda: None
    request_slots: int = 1
    handoff: Handoff | None = None
    siblings: tuple[Row, ...] = ()
