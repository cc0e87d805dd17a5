"""The schema's revision: bring it to head, ask where it is, and whether this code can work on it.

Alembic alone makes tables. While a service is upgraded part by part, code of before works on a schema of
after: migrations add, and what takes away moves the floor up (``app.core.tables.SchemaFloor``), below which
code refuses to start.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, select
from sqlalchemy.exc import DBAPIError

from app.core.db import build_engine, get_engine, read_session
from app.core.tables import SchemaFloor

_MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


@dataclass(frozen=True)
class Standing:
    """Where the database's schema is, seen from this code."""

    current: str | None
    """Its revision; None: it is empty."""
    head: str | None
    """The revision that this code was written for."""
    newer: bool
    """The schema is of a later version: this code does not know its revision."""
    problem: str | None
    """Why this code cannot work on it, and what to do."""


def alembic_config(url: str | None = None) -> Config:
    """Alembic's configuration; ``url`` is what ``migrations/env.py`` connects to (default: the settings)."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["url"] = url
    return config


class SchemaIsNewer(Exception):
    """A later version has upgraded the database, and this code cannot work on it; says what to do."""


def upgrade_to_head(url: str) -> None:
    """Create or upgrade the schema; nothing happens when it is at head already, or beyond.

    Raises SchemaIsNewer where it is so far beyond that this code cannot work on it.
    """
    engine = build_engine(url)
    try:
        standing = schema_standing(engine)
    finally:
        engine.dispose()
    if standing.newer and standing.problem:
        raise SchemaIsNewer(f"the database's schema is {standing.problem}")
    if not standing.newer:
        command.upgrade(alembic_config(url), "head")


def head_revision() -> str | None:
    """The revision this code was written for."""
    return _revisions()[0]


@lru_cache
def _revisions() -> tuple[str | None, frozenset[str]]:
    """The newest, and all that this code knows."""
    scripts = ScriptDirectory.from_config(alembic_config())
    return scripts.get_current_head(), frozenset(one.revision for one in scripts.walk_revisions())


def current_revision(engine: Engine | str) -> str | None:
    """The revision that the database is at; None for an empty database."""
    owned = build_engine(engine) if isinstance(engine, str) else None
    try:
        with (owned or engine).connect() as connection:  # type: ignore[union-attr]
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        if owned is not None:
            owned.dispose()


def schema_standing(engine: Engine | None = None) -> Standing:
    """Where the schema of the database is. Raises SQLAlchemyError where that does not answer."""
    engine = engine or get_engine()
    current = current_revision(engine)
    head, known = _revisions()
    if current == head:
        return Standing(current, head, newer=False, problem=None)
    if current is None or current in known:
        at = f"at revision {current or 'none (it is empty)'}, but this version needs {head}"
        return Standing(current, head, newer=False, problem=f"{at}: run `policysplit migrate`")
    floor = _floor(engine)
    if floor in known:
        return Standing(current, head, newer=True, problem=None)
    wants = f"and works with versions from {floor} on; this one is of {head}" if floor else "unknown here"
    text = f"at revision {current}, {wants}: install the version that the database was upgraded with"
    return Standing(current, head, newer=True, problem=text)


def _floor(engine: Engine) -> str | None:
    try:
        with read_session(engine) as session:
            return session.scalar(select(SchemaFloor.revision))
    except DBAPIError:  # not a table of this database
        return None
