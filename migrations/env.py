"""Runs migrations on the database of the settings, or on the one that ``app.migrate`` names."""

from alembic import context

from app.db import build_engine
from app.settings import get_settings
from app.tables import Table

# Serialises processes that start together on one PostgreSQL; SQLite has its write lock.
_LOCK = 7_405_311_017_420_001


def run() -> None:
    url = context.config.attributes.get("url") or get_settings().resolved_database_url
    engine = build_engine(url)
    try:
        with engine.connect() as connection:
            context.configure(
                connection=connection,
                target_metadata=Table.metadata,
                compare_type=True,
                # SQLite cannot alter a column: Alembic copies the table instead.
                render_as_batch=connection.dialect.name == "sqlite",
                transactional_ddl=True,
            )
            with context.begin_transaction():
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                context.run_migrations()
    finally:
        engine.dispose()


run()
