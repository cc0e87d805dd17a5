"""Checks of what hosts share: database, schema, broker, store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import ResponseError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.cli.doctor.finding import Finding, failed, ok, warning
from app.cli.errors import cause_of
from app.cli.schema import without_password
from app.core.db import get_engine, read_session
from app.core.health import connections_warning
from app.core.migrate import schema_standing
from app.core.queue import BROKER_ERRORS, broker_client
from app.core.settings import get_settings
from app.core.store.errors import StoreError
from app.core.store.remote import QUICK, remote

#: Below this folder of the store: an object that is there for as long as the check takes.
PROBES = "policysplit-doctor"


def database_is_there() -> bool:
    """Whether there is something to connect to: SQLite would make a file that is not there."""
    url = get_settings().resolved_database_url
    path = url.removeprefix("sqlite:///")
    return path == url or Path(path).exists()


def database() -> Iterator[Finding]:
    """That it answers, its schema, its connections."""
    shown = without_password(get_settings().resolved_database_url)
    if not database_is_there():
        yield failed(
            "database",
            f"{shown} is not there",
            "create it with `policysplit serve` or `policysplit migrate`; or give --data-dir, or set "
            "DATABASE_URL",
        )
        return
    try:
        with read_session() as session:
            session.execute(select(1))
    except (SQLAlchemyError, OSError) as error:
        yield failed(
            "database",
            f"{shown} does not answer: {cause_of(error)}",
            "start it, or correct DATABASE_URL (address, name, user, password); with SQLite the data "
            "directory must be writable",
        )
        return
    yield ok("database", f"{shown} answers ({get_engine().dialect.name})")
    standing = schema_standing()
    if standing.problem:
        found, _, do = standing.problem.rpartition(": ")
        yield failed("schema", found, do)
    elif standing.newer:
        yield warning(
            "schema",
            f"at revision {standing.current}, from a later version; this version ({standing.head}) works "
            "with it",
            "finish the upgrade: install that version here, too (docs/guides/upgrading.md)",
        )
    else:
        yield ok("schema", f"at revision {standing.head}, as this version requires")
    if told := connections_warning():
        found, _, do = told.partition(". Set ")
        yield warning("connections", found, f"set {do}")


def broker() -> Iterator[Finding]:
    """That it answers, and keeps what it is given."""
    shown = without_password(get_settings().resolved_broker_url)
    try:
        with broker_client() as client:
            client.ping()
            policy = _policy(client)
    except BROKER_ERRORS as error:
        yield failed(
            "broker",
            f"{shown} does not answer: {error or type(error).__name__}",
            "start Redis, or correct BROKER_URL; without BROKER_URL, it is the Redis that runs with "
            "`policysplit serve`",
        )
        return
    if policy not in (None, "noeviction"):
        yield warning(
            "broker",
            f"{shown} discards messages when its memory is full (maxmemory-policy {policy})",
            "set maxmemory-policy to noeviction; lost messages are only resent half a minute later",
        )
    else:
        yield ok("broker", f"{shown} answers")


def _policy(client: Redis) -> str | None:
    """What it throws away when its memory is full; None where it does not tell."""
    try:
        told: Any = client.config_get("maxmemory-policy")
    except ResponseError:
        return None
    return told.get("maxmemory-policy")


def store() -> Iterator[Finding]:
    """That it takes, gives and removes an object."""
    url = get_settings().store
    if (there := remote(patience=QUICK)) is None:
        yield ok("store", "none: hosts share the data directory (POLICYSPLIT_STORE is not set)")
        return
    name, content = f"{PROBES}/{uuid4().hex}", b"policysplit doctor"
    try:
        there.put_bytes(name, content)
        given = there.get_bytes(name)
        there.remove([name])
    except StoreError as error:
        found, _, do = error.message.partition(": ")
        yield failed("store", found, do or "see the store's own log")
        return
    if given != content:
        yield failed(
            "store", f"{url} returns different bytes than were written", "check its disks, and any proxy"
        )
    else:
        yield ok("store", f"{url} can write, read and delete an object")
