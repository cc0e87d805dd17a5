"""The schema's revision: bring it to head, or ask where it is. Alembic alone makes tables."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from app.core.db import build_engine

_MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def alembic_config(url: str | None = None) -> Config:
    """Alembic's configuration; ``url`` is what ``migrations/env.py`` connects to (default: the settings)."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["url"] = url
    return config


def upgrade_to_head(url: str) -> None:
    """Create or upgrade the schema; nothing happens when it is at head already."""
    command.upgrade(alembic_config(url), "head")


def head_revision() -> str | None:
    """The revision this code needs."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def current_revision(engine: Engine | str) -> str | None:
    """The revision that the database is at; None for an empty database."""
    owned = build_engine(engine) if isinstance(engine, str) else None
    try:
        with (owned or engine).connect() as connection:  # type: ignore[union-attr]
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        if owned is not None:
            owned.dispose()
