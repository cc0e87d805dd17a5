"""Uploaded and produced files."""

from sqlalchemy import BigInteger, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.strict_json import JsonObject
from app.core.tables.base import Double, Json, Table

_EXPIRES = "expires_at IS NOT NULL"


class File(Table):
    """An uploaded or produced file; the bytes lie in storage under ``files/<id>``."""

    __tablename__ = "files"
    __table_args__ = (
        Index("ix_files_listing", "project_id", "created_at", "id"),
        Index("ix_files_purpose", "project_id", "purpose", "created_at", "id", postgresql_include=["bytes"]),
        Index("ix_files_expiry", "expires_at", postgresql_where=text(_EXPIRES), sqlite_where=text(_EXPIRES)),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    created_at: Mapped[float] = mapped_column(Double)
    filename: Mapped[str] = mapped_column(String(512))
    purpose: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    rows: Mapped[int | None] = mapped_column(BigInteger)
    # When its uploader wants it gone; None: not before it is deleted.
    expires_at: Mapped[float | None] = mapped_column(Double)
    user_metadata: Mapped[JsonObject | None] = mapped_column(Json)
    # Dotted key -> {"count": rows that have it, "first_missing": line of the first row without it}:
    # lets a job's grader template be checked against the whole file without reading it again.
    fields: Mapped[JsonObject | None] = mapped_column(Json)
    # Method -> why it cannot learn from the rows; NULL: not looked at (before 0031).
    unfit: Mapped[JsonObject | None] = mapped_column(Json)
