"""``INSERT … ON CONFLICT``, which SQLite and PostgreSQL spell alike and SQLAlchemy keeps apart."""

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.core.tables import Table


def insert_for(session: Session, table: type[Table]) -> sqlite.Insert | postgresql.Insert:
    """An insert into ``table`` with ``on_conflict_do_update`` and ``on_conflict_do_nothing``."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
