"""What jobs would take."""

from sqlalchemy import ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.strict_json import JsonObject
from app.core.tables.base import Double, Json, Table


class Estimate(Table):
    """What a job would take: a probe that a worker runs (``app.estimates``)."""

    __tablename__ = "estimates"
    __table_args__ = (
        Index("ix_estimates_status", "status", "created_at"),
        Index("ix_estimates_finished", "finished_at"),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    created_at: Mapped[float] = mapped_column(Double)
    finished_at: Mapped[float | None] = mapped_column(Double)
    status: Mapped[str] = mapped_column(String(16))
    model: Mapped[str] = mapped_column(String(512))
    run_spec: Mapped[JsonObject] = mapped_column(Json)
    result: Mapped[JsonObject | None] = mapped_column(Json)
    error: Mapped[JsonObject | None] = mapped_column(Json)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[float | None] = mapped_column(Double)
    enqueued_at: Mapped[float | None] = mapped_column(Double)
