"""Who owns everything, and the keys that open it."""

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.tables.base import Double, Table


class Project(Table):
    """Owner of every other resource."""

    __tablename__ = "projects"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(256))
    created_at: Mapped[float] = mapped_column(Double)
    # What it may use (app.accounting.limits); NULL: as the settings say. Jobs that have not ended, GPU-hours
    # a month, bytes of files and runs together, requests of all its keys together.
    max_jobs: Mapped[int | None] = mapped_column(Integer)
    max_gpu_hours: Mapped[float | None] = mapped_column(Double)
    max_bytes: Mapped[int | None] = mapped_column(BigInteger)
    requests_per_minute: Mapped[int | None] = mapped_column(Integer)


class ApiKey(Table):
    """A key of a project. Its secret is nowhere: only the hash, and a hint to tell keys apart.

    Rows stay when keys are revoked: without any row the service takes itself for keyless.
    """

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_sha256", "sha256", unique=True),)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(String(256))
    sha256: Mapped[str] = mapped_column(String(64))
    hint: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float] = mapped_column(Double)
    revoked_at: Mapped[float | None] = mapped_column(Double)
    # NULL: as the settings say.
    requests_per_minute: Mapped[int | None] = mapped_column(Integer)
    # Sees and makes projects, and the keys of all.
    operator: Mapped[bool] = mapped_column(Boolean, default=False)
    # What it may do (app.core.scopes), with spaces between. NULL: all, as every key could before 0033.
    scopes: Mapped[str | None] = mapped_column(String(64))
    # The key that made it, or who had signed in. NULL: the operator, on the machine itself.
    created_by: Mapped[str | None] = mapped_column(String(64))
    # Within seconds; NULL: never.
    last_used_at: Mapped[float | None] = mapped_column(Double)
