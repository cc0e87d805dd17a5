"""What workers do with a job: their attempts at it, what happened in them, steps done again."""

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.strict_json import JsonObject
from app.core.tables.base import BigId, Double, Json, Table


class JobAttempt(Table):
    """One worker's turn at a job, and how far its event file has been relayed."""

    __tablename__ = "job_attempts"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    worker: Mapped[str] = mapped_column(String(255))
    started_at: Mapped[float] = mapped_column(Double)
    ended_at: Mapped[float | None] = mapped_column(Double)
    outcome: Mapped[str | None] = mapped_column(String(64))
    # Why it ended that way (worker.jobs.causes), and what happened in a sentence.
    cause: Mapped[str | None] = mapped_column(String(32))
    message: Mapped[str | None] = mapped_column(Text)
    detail: Mapped[str | None] = mapped_column(Text)
    relayed_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    # Up to when its seconds are in ``usage``, and what its steps told that is not yet (app.accounting).
    counted_at: Mapped[float | None] = mapped_column(Double)
    uncounted_trained: Mapped[int] = mapped_column(BigInteger, server_default="0")
    uncounted_sampled: Mapped[int] = mapped_column(BigInteger, server_default="0")
    uncounted_gradings: Mapped[int] = mapped_column(BigInteger, server_default="0")


class JobReplay(Table):
    """A step of a job that a worker does again, to compare (``app.jobs.replays``)."""

    __tablename__ = "job_replays"
    __table_args__ = (
        Index("ix_job_replays_job", "job_id", "created_at"),
        Index("ix_job_replays_status", "status", "created_at"),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    step: Mapped[int] = mapped_column(Integer)
    # queued, running, succeeded, failed
    status: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float] = mapped_column(Double)
    finished_at: Mapped[float | None] = mapped_column(Double)
    attempt: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[float | None] = mapped_column(Double)
    enqueued_at: Mapped[float] = mapped_column(Double, default=0.0)
    result: Mapped[JsonObject | None] = mapped_column(Json)
    error: Mapped[str | None] = mapped_column(Text)


class JobEvent(Table):
    """What happened to a job, for people. Numeric series live in MetricPoint and MetricBlock."""

    __tablename__ = "job_events"
    __table_args__ = (
        Index("ix_job_events_job", "job_id", "sequence"),
        # app.jobs.timeline finds a few among a job's many: created_at is there so that no row is read for it.
        Index("ix_job_events_type", "job_id", "type", "sequence", "created_at"),
    )
    sequence: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    created_at: Mapped[float] = mapped_column(Double)
    level: Mapped[str] = mapped_column(String(8))
    type: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[JsonObject | None] = mapped_column(Json)
