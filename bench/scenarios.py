"""What is compared: one row for each scenario."""

from __future__ import annotations

from dataclasses import dataclass

from closed_loop import ClosedLoop
from imbalance import Imbalance
from mixed import Mixed
from peers import (
    BJOERN,
    CHEROOT,
    GRANIAN,
    GRANIAN_NO_LOG,
    GUNICORN_GEVENT,
    GUNICORN_GTHREAD,
    GUNICORN_SYNC,
    OURS,
    OURS_GEVENT,
    OURS_STAYING,
    OURS_THREADS,
    UWSGI,
    UWSGI_GEVENT,
    UWSGI_ROUTER,
    UWSGI_THREADS,
    WAITRESS,
    Peer,
    Task,
)
from samples import Load
from sites import FAST_PAGE, HELLO, PAGES


@dataclass(frozen=True, slots=True)
class Scenario:
    """A task, what is done to the servers that have it, and which they are.

    The first of `peers` is the one that the others are compared with.
    """

    name: str
    title: str
    task: Task
    load: Load
    peers: tuple[Peer, ...]
    floor: bool = False
    """Whether the application is also called without a server."""


ONE_WORKER = (*(OURS, GUNICORN_SYNC, GUNICORN_GTHREAD, UWSGI, GRANIAN, BJOERN, WAITRESS, CHEROOT),)
TWO_WORKERS = (OURS, GUNICORN_SYNC, GUNICORN_GTHREAD, UWSGI, GRANIAN, BJOERN)
"""waitress and cheroot are one process each."""
THREADED = (OURS_THREADS, GUNICORN_GTHREAD, UWSGI_THREADS, GRANIAN, WAITRESS, CHEROOT)
GREENLETS = (OURS_GEVENT, GUNICORN_GEVENT, UWSGI_GEVENT)
MIXED = (
    *(OURS, OURS_STAYING, GUNICORN_SYNC, GUNICORN_GTHREAD, UWSGI, UWSGI_ROUTER, GRANIAN, BJOERN),
)
UNEVEN = (OURS, OURS_STAYING, GUNICORN_GTHREAD, GRANIAN, BJOERN)

JSON = FAST_PAGE.at("/version/")
DATABASE = FAST_PAGE.at("/books/1/")
LARGE, UPLOAD, STREAM, WAIT = (
    PAGES.at(path) for path in ("/large", "/upload", "/stream", "/wait/5")
)

# A scenario is a paragraph here; the formatter would make each argument a line.
# fmt: off
SCENARIOS = (
    Scenario("hello", "Hello", Task(HELLO), ClosedLoop(),
             (*ONE_WORKER, UWSGI_ROUTER, GRANIAN_NO_LOG), floor=True),
    Scenario("page", "Django page", Task(FAST_PAGE), ClosedLoop(), ONE_WORKER, floor=True),
    Scenario("json", "Django JSON", Task(JSON), ClosedLoop(), ONE_WORKER),
    Scenario("database", "Page from SQLite", Task(DATABASE), ClosedLoop(), ONE_WORKER),
    Scenario("large", "64 KiB body", Task(LARGE), ClosedLoop(), ONE_WORKER),
    Scenario("upload", "Upload", Task(UPLOAD), ClosedLoop(upload=True), ONE_WORKER),
    Scenario("stream", "Stream of 16 chunks, 64 KiB", Task(STREAM), ClosedLoop(), ONE_WORKER),
    Scenario("connections", "A connection per request", Task(HELLO),
             ClosedLoop(keep_alive=False), ONE_WORKER),
    Scenario("nginx", "Behind nginx, upstream keep-alive", Task(HELLO, proxy="keep-alive"),
             ClosedLoop(), ONE_WORKER),
    Scenario("nginx-close", "Behind nginx, a connection per request",
             Task(HELLO, proxy="close"), ClosedLoop(), ONE_WORKER),
    Scenario("idle", "1 000 idle connections", Task(HELLO), ClosedLoop(idle=1000), ONE_WORKER),
    Scenario("two-workers", "Two workers, hello", Task(HELLO, workers=2), ClosedLoop(),
             TWO_WORKERS),
    Scenario("two-workers-page", "Two workers, Django page", Task(FAST_PAGE, workers=2),
             ClosedLoop(), TWO_WORKERS),
    Scenario("threads", "4 threads, hello", Task(HELLO, threads=4), ClosedLoop(), THREADED),
    Scenario("gevent", "gevent, hello", Task(HELLO, threads=64), ClosedLoop(), GREENLETS),
    Scenario("io", "A view that waits 5 ms, 8 threads; the ideal is 1 600/s",
             Task(WAIT, threads=8), ClosedLoop(connections=32), THREADED),
    Scenario("io-gevent", "A view that waits 5 ms, 32 greenlets; the ideal is 6 400/s",
             Task(WAIT, threads=32), ClosedLoop(connections=32), GREENLETS),
    Scenario("mixed-1x100", "Mixed load: beside 1 client, 100 ms each", Task(PAGES, workers=4),
             Mixed(slow_clients=1, slow_ms=100), MIXED),
    Scenario("mixed-3x100", "Mixed load: beside 3 clients, 100 ms each", Task(PAGES, workers=4),
             Mixed(slow_clients=3, slow_ms=100), MIXED),
    Scenario("mixed-1x1000", "Mixed load: beside 1 client, 1 s each", Task(PAGES, workers=4),
             Mixed(slow_clients=1, slow_ms=1000), MIXED),
    Scenario("imbalance", "All connections at one of two workers", Task(FAST_PAGE, workers=2),
             Imbalance(), UNEVEN),
)
# fmt: on
GROUPS = {
    "all": tuple(scenario.name for scenario in SCENARIOS),
    "short": (
        *("hello", "page", "threads", "gevent", "io"),
        *("mixed-1x100", "mixed-3x100", "mixed-1x1000"),
    ),
}
