"""What all tables are made of."""

from sqlalchemy import JSON, BigInteger, Float, Index, Integer, MetaData, text
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION
from sqlalchemy.orm import DeclarativeBase

# SQLite numbers rows by itself only for a column declared INTEGER.
BigId = BigInteger().with_variant(Integer, "sqlite")
Double = Float(53).with_variant(DOUBLE_PRECISION, "postgresql")
DEFAULT_PROJECT = "proj_default"
#: Whose jobs nobody sees: their rows are being removed (app.jobs.deletion).
DELETED_PROJECT = "proj_deleted"

Json = JSON(none_as_null=True)


def of_unfinished(name: str, column: str) -> Index:
    """An index over ``column`` of the jobs that have not ended."""
    condition = text("finished_at IS NULL")
    return Index(name, column, postgresql_where=condition, sqlite_where=condition)


class Table(DeclarativeBase):
    """Base of all tables."""

    # Named constraints: SQLite can only change or drop a constraint that has a name.
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        }
    )
