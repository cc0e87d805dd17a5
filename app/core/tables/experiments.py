"""Experiments and their runs."""

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.core.strict_json import JsonObject
from app.core.tables.base import Double, Json, Table


class Experiment(Table):
    """Arms, tasks and seeds that are compared. Its runs are jobs; what they came to is read from those."""

    __tablename__ = "experiments"
    __table_args__ = (
        UniqueConstraint("project_id", "idempotency_key"),
        Index("ix_experiments_listing", "project_id", "created_at", "id"),
        Index("ix_experiments_unstarted", "has_unstarted_runs"),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Double)
    name: Mapped[str] = mapped_column(String(256))
    # The request, with what was added since.
    definition: Mapped[JsonObject] = mapped_column(Json)
    user_metadata: Mapped[dict[str, str] | None] = mapped_column(Json)
    cancelled_at: Mapped[float | None] = mapped_column(Double)
    # Whether there is work for the reconciler; set with each run that is added.
    has_unstarted_runs: Mapped[bool] = mapped_column(Boolean)


class ExperimentRun(Table):
    """One arm on one task with one seed. ``job_id`` NULL: not started yet, or refused with ``error``."""

    __tablename__ = "experiment_runs"
    __table_args__ = (
        Index("ix_experiment_runs_order", "experiment_id", "position"),
        Index("ix_experiment_runs_job", "job_id"),
    )
    experiment_id: Mapped[str] = mapped_column(
        ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True
    )
    arm: Mapped[str] = mapped_column(String(64), primary_key=True)
    task: Mapped[str] = mapped_column(String(64), primary_key=True)
    seed: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    position: Mapped[int] = mapped_column(Integer)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    error: Mapped[JsonObject | None] = mapped_column(Json)
