"""Fine-tuning jobs, and what they are found and listed by."""

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.strict_json import JsonObject
from app.core.tables.base import Double, Json, Table, of_unfinished


class Job(Table):
    """A fine-tuning job. The row is the truth; a queue message only wakes a worker up.

    ``attempt`` is the fencing token: every write of a worker is conditional on it.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("project_id", "idempotency_key"),
        Index("ix_jobs_listing", "project_id", "created_at", "id"),
        # Without lease_expires_at: PostgreSQL then keeps a heartbeat out of every index.
        Index("ix_jobs_status_project", "status", "project_id"),
        Index("ix_jobs_fine_tuned_model", "fine_tuned_model", unique=True),
        Index("ix_jobs_by_status", "project_id", "status", "created_at", "id"),
        Index("ix_jobs_finished", "finished_at"),
        # What a project takes is the sum of this one.
        Index("ix_jobs_storage", "project_id", "disk_bytes", "checkpoints"),
        Index("ix_jobs_name", "project_id", "name", "id"),
        # A search reads this one and no row (app.jobs.repository).
        Index("ix_jobs_words", "project_id", "created_at", "id", "words"),
        # What is asked of jobs that have not ended, however many have.
        of_unfinished("ix_jobs_open_training_file", "training_file"),
        of_unfinished("ix_jobs_open_validation_file", "validation_file"),
        of_unfinished("ix_jobs_open_model", "model"),
        of_unfinished("ix_jobs_open_project", "project_id"),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Double)
    started_at: Mapped[float | None] = mapped_column(Double)
    finished_at: Mapped[float | None] = mapped_column(Double)
    status: Mapped[str] = mapped_column(String(32))
    model: Mapped[str] = mapped_column(String(512))
    fine_tuned_model: Mapped[str | None] = mapped_column(String(512))
    suffix: Mapped[str | None] = mapped_column(String(64))
    seed: Mapped[int] = mapped_column(BigInteger)
    training_file: Mapped[str | None] = mapped_column(String(64))
    validation_file: Mapped[str | None] = mapped_column(String(64))
    # ``method`` with every "auto" resolved, as the job shows it; ``run_spec`` is what the trainer gets.
    method: Mapped[JsonObject] = mapped_column(Json)
    run_spec: Mapped[JsonObject] = mapped_column(Json)
    user_metadata: Mapped[dict[str, str] | None] = mapped_column(Json)
    integrations: Mapped[list[JsonObject] | None] = mapped_column(Json)
    result_files: Mapped[list[str]] = mapped_column(Json, default=list)
    error: Mapped[JsonObject | None] = mapped_column(Json)
    step: Mapped[int] = mapped_column(Integer, default=0)
    total_steps: Mapped[int] = mapped_column(Integer)
    # Of a job that succeeded: the step whose checkpoint is its result; NULL: the last one.
    result_step: Mapped[int | None] = mapped_column(Integer)
    result_reason: Mapped[str | None] = mapped_column(Text)
    trained_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    pause_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[float | None] = mapped_column(Double)
    # When the wake-up message was last sent; NULL means it still has to be (the outbox).
    enqueued_at: Mapped[float | None] = mapped_column(Double)
    not_before: Mapped[float] = mapped_column(Double, default=0.0)
    # Among the waiting jobs of its project the highest is next.
    priority: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    # The pace: step and time of this attempt's first metrics, and the time of the last (worker.jobs.clock).
    clock_step: Mapped[int | None] = mapped_column(Integer)
    clock_at: Mapped[float | None] = mapped_column(Double)
    stepped_at: Mapped[float | None] = mapped_column(Double)
    # Since the last resumption, from which budgets count: the step then, and seconds of training.
    budget_step: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    budget_seconds: Mapped[float] = mapped_column(Double, default=0.0, server_default="0")
    gpus: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    # How many responses the run samples in training; NULL: as ``run_spec`` says (jobs before 0017).
    planned_samples: Mapped[float | None] = mapped_column(Double)
    # What people call it, the words that it is found by (app.jobs.naming), and what people say of it.
    name: Mapped[str] = mapped_column(String(128), default="", server_default="")
    words: Mapped[str] = mapped_column(String(600), default="", server_default="")
    note: Mapped[str | None] = mapped_column(Text)
    tags: Mapped[list[str] | None] = mapped_column(Json)
    # Of one worker, GPUs or the slots that stand in for them: how many it wants, with how many it begins at
    # least, and how many its attempt has. A run on a Ray cluster wants one, for its driver; 0 begin it.
    wanted_gpus: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
    least_gpus: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
    held_gpus: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
    # The worker that keeps what becomes free for it, and since when it is its turn (worker.jobs.room).
    reserved_by: Mapped[str | None] = mapped_column(String(128))
    turn_at: Mapped[float | None] = mapped_column(Double)
    # Of the run's folder, as its worker last measured it.
    disk_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # The context of the request that made it, where there are traces (app.core.tracing).
    traceparent: Mapped[str | None] = mapped_column(String(64))
    # How many it has (app.checkpoints.repository): a project's hundred thousands take long to count.
    checkpoints: Mapped[int] = mapped_column(Integer, default=0, server_default="0")


# Waiting jobs in the order of their turn (app.jobs.order).
Index(
    "ix_jobs_turn",
    Job.project_id,
    Job.priority.desc(),
    Job.created_at,
    Job.id,
    # No row is read for these; SQLite wants the status, too.
    Job.not_before,
    Job.cancel_requested,
    Job.status,
    Job.least_gpus,
    postgresql_where=text("status = 'queued'"),
    sqlite_where=text("status = 'queued'"),
)
# Those that more than one slot of a worker has to be free for.
Index(
    "ix_jobs_large",
    Job.id,
    postgresql_where=text("status = 'queued' AND wanted_gpus > 1"),
    sqlite_where=text("status = 'queued' AND wanted_gpus > 1"),
)
# By the part of its id that the names of its models carry (app.checkpoints.naming).
Index("ix_jobs_part", Job.id, postgresql_ops={"id": "varchar_pattern_ops"})
Index(
    "ix_jobs_without_metadata",
    Job.project_id,
    Job.created_at,
    Job.id,
    postgresql_where=text("user_metadata IS NULL"),
    sqlite_where=text("user_metadata IS NULL"),
)


class JobMetadata(Table):
    """An index of jobs by the pairs of ``user_metadata``, in the order of lists. Triggers keep it (0020)."""

    __tablename__ = "job_metadata"
    __table_args__ = (Index("ix_job_metadata_job", "job_id"), {"sqlite_with_rowid": False})
    project_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(String(512), primary_key=True)
    created_at: Mapped[float] = mapped_column(Double, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)


#: Below every reward: of jobs that have none yet, which come last, or first in rising order.
NO_REWARD = -1e308


class JobReward(Table):
    """A job's newest rewards, for lists in their order. Every job has a row: triggers make it (0026).

    Not columns of the job: they change with each step, and a row that changes in one index is entered in all.
    """

    __tablename__ = "job_rewards"
    __table_args__ = (
        Index("ix_job_rewards_normal", "project_id", "normal", "job_id"),
        Index("ix_job_rewards_high_entropy", "project_id", "high_entropy", "job_id"),
    )
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    project_id: Mapped[str] = mapped_column(String(64))
    normal: Mapped[float] = mapped_column(Double, server_default=str(NO_REWARD))
    high_entropy: Mapped[float] = mapped_column(Double, server_default=str(NO_REWARD))
