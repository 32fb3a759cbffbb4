"""Nothing is open across a fork, and what is all the same is seen."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from pytest_django.plugin import DjangoDbBlocker

from django_wsgiserve.errors import CheckRefused
from django_wsgiserve.integration.databases import (
    close_all,
    missing_migrations,
    open_connections,
    running_threads,
)
from django_wsgiserve.integration.proving import prepare_fork

DATABASE_DEFAULTS = {
    "ATOMIC_REQUESTS": False,
    "AUTOCOMMIT": True,
    "CONN_MAX_AGE": None,
    "CONN_HEALTH_CHECKS": False,
    "OPTIONS": {},
    "TIME_ZONE": None,
    "USER": "",
    "PASSWORD": "",
    "HOST": "",
    "PORT": "",
    "TEST": {"NAME": None, "MIRROR": None, "CHARSET": None, "COLLATION": None, "MIGRATE": True},
}


def open_now() -> set[int]:
    """Return the descriptors that are open; a listing of /proc would count its own."""
    found = set()
    for fd in range(512):
        with contextlib.suppress(OSError):
            os.fstat(fd)
            found.add(fd)
    return found


@pytest.fixture
def site_database(
    tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> Iterator[BaseDatabaseWrapper]:
    """Return the default connection, led to an SQLite file that is not there yet."""
    before = connections["default"]
    connections.settings["default_before"] = connections.settings["default"]
    connections.settings["default"] = {
        **DATABASE_DEFAULTS,
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "site.sqlite3"),
    }
    del connections["default"]
    with django_db_blocker.unblock():
        yield connections["default"]
        connections["default"].close()
    connections.settings["default"] = connections.settings.pop("default_before")
    connections["default"] = before


def test_a_database_that_is_not_there_is_refused_and_not_made(
    site_database: BaseDatabaseWrapper,
) -> None:
    with pytest.raises(CheckRefused, match="does not exist") as refusal:
        missing_migrations()
    assert "python manage.py migrate" in str(refusal.value)
    assert not Path(site_database.settings_dict["NAME"]).exists()


def test_a_database_in_a_directory_that_is_not_there_is_told_apart(
    site_database: BaseDatabaseWrapper, tmp_path: Path
) -> None:
    """Migrating would not help."""
    site_database.settings_dict["NAME"] = tmp_path / "gone" / "site.sqlite3"
    with pytest.raises(CheckRefused, match="in a directory that does not exist"):
        missing_migrations()


def test_a_database_without_an_applied_migration_is_refused(
    site_database: BaseDatabaseWrapper,
) -> None:
    site_database.ensure_connection()
    with pytest.raises(CheckRefused, match="none of the migrations is applied"):
        missing_migrations()


def test_a_database_with_an_applied_migration_is_served(site_database: BaseDatabaseWrapper) -> None:
    from django.db.migrations.recorder import MigrationRecorder

    recorder = MigrationRecorder(site_database)
    recorder.ensure_schema()
    recorder.record_applied("auth", "0001_initial")
    assert missing_migrations() == ""


def test_a_database_that_cannot_be_reached_is_a_note(site_database: BaseDatabaseWrapper) -> None:
    name = Path(site_database.settings_dict["NAME"])
    site_database.settings_dict["NAME"] = name  # as in the settings of `startproject`
    name.mkdir()
    said = f"the database {str(name)!r} cannot be reached: unable to open database file"
    assert missing_migrations() == said


def test_database_connections_are_closed(site_database: BaseDatabaseWrapper) -> None:
    site_database.ensure_connection()
    assert site_database.connection is not None
    close_all()
    assert site_database.connection is None


def test_pools_are_closed_with_their_threads(django_db_blocker: DjangoDbBlocker) -> None:
    pytest.importorskip("psycopg_pool", reason="psycopg_pool is not installed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections.settings["pooled"] = {
            **DATABASE_DEFAULTS,
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "site",
            "HOST": "127.0.0.1",
            "PORT": str(server.getsockname()[1]),
            "CONN_MAX_AGE": 0,
            "OPTIONS": {"pool": {"min_size": 1, "timeout": 0.1, "reconnect_timeout": 0.1}},
        }
        try:
            with django_db_blocker.unblock():
                pool = connections["pooled"].pool  # type: ignore[attr-defined]
                pool.open()
                assert any(name.startswith("pool-") for name in running_threads())
                server.close()
                close_all()
            assert pool.closed
            assert not any(name.startswith("pool-") for name in running_threads())
        finally:
            del connections["pooled"]
            del connections.settings["pooled"]


def test_caches_are_made_anew_after_the_fork(settings: Any) -> None:
    before = caches["default"]
    before.set("shelf", "full", 60)
    close_all()
    assert caches["default"] is not before
    assert caches["default"].get("shelf") == "full"


def test_a_connection_that_stays_open_is_named_by_its_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as client:
            known = open_now() - {client.fileno()}
            found = list(open_connections(known))
            assert found == [f"127.0.0.1:{address[1]} (descriptor {client.fileno()})"]
            (note, *_) = prepare_fork(known)
            assert f"a connection to 127.0.0.1:{address[1]}" in note


def test_an_sqlite_file_that_stays_open_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite3"
    known = open_now()
    kept = sqlite3.connect(path)
    try:
        kept.execute("CREATE TABLE shelf (book)")
        (found,) = open_connections(known)
        assert found.startswith(f"{path} (descriptor ")
    finally:
        kept.close()


def test_what_is_meant_to_be_inherited_is_not_named() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        known = open_now()
        assert list(open_connections(known)) == []


def test_without_procfs_nothing_is_named(tmp_path: Path) -> None:
    assert list(open_connections(set(), tmp_path / "missing")) == []


def test_a_thread_that_a_fork_would_lose_is_named() -> None:
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait, name="price-feed")
    thread.start()
    try:
        known = open_now()
        assert "price-feed" in "".join(prepare_fork(known))
    finally:
        leave.set()
        thread.join()
    assert "price-feed" not in running_threads()
