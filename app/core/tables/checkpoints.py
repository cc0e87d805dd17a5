"""Finished checkpoints, and who may use them."""

from sqlalchemy import ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.core.strict_json import JsonObject
from app.core.tables.base import Double, Json, Table


class Checkpoint(Table):
    """A finished checkpoint folder, servable in both modes. ``model`` is ``ft:…:ckpt-step-N``."""

    __tablename__ = "checkpoints"
    __table_args__ = (
        UniqueConstraint("job_id", "step"),
        Index("ix_checkpoints_listing", "project_id", "created_at", "id"),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    created_at: Mapped[float] = mapped_column(Double)
    step: Mapped[int] = mapped_column(Integer)
    model: Mapped[str] = mapped_column(String(512), unique=True)
    path: Mapped[str] = mapped_column(Text)
    high_entropy_prompt: Mapped[str] = mapped_column(Text)
    high_entropy_placement: Mapped[str] = mapped_column(String(16))
    chat_template_kwargs: Mapped[JsonObject] = mapped_column(Json)
    manifest_sha256: Mapped[str] = mapped_column(String(64))
    metrics: Mapped[dict[str, float]] = mapped_column(Json)


class CheckpointPermission(Table):
    """A project other than the owner that may use a checkpoint."""

    __tablename__ = "checkpoint_permissions"
    __table_args__ = (
        UniqueConstraint("checkpoint_id", "project_id"),
        Index("ix_checkpoint_permissions_project", "project_id", "checkpoint_id"),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    checkpoint_id: Mapped[str] = mapped_column(ForeignKey("checkpoints.id", ondelete="CASCADE"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    created_at: Mapped[float] = mapped_column(Double)
