"""What the schema says of itself."""

from sqlalchemy import Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.tables.base import Table


class SchemaFloor(Table):
    """One row: the oldest revision whose code can work on the schema as it is (``app.core.migrate``).

    A migration that takes away, renames or narrows what older code uses moves it up in the same transaction.
    """

    __tablename__ = "schema_floor"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    revision: Mapped[str] = mapped_column(String(32))
