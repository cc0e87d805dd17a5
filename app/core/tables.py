"""Every table. Alembic alone creates them (``migrations/``).

Times are unix seconds. Ids are OpenAI's forms: ``file-…``, ``ftjob-…``, ``ftevent-…``, ``ftckpt_…``.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# SQLite numbers rows by itself only for a column declared INTEGER.
BigId = BigInteger().with_variant(Integer, "sqlite")
Double = Float(53).with_variant(DOUBLE_PRECISION, "postgresql")
DEFAULT_PROJECT = "proj_default"
#: Whose jobs nobody sees: their rows are being removed (app.jobs.deletion).
DELETED_PROJECT = "proj_deleted"


Json = JSON(none_as_null=True)
#: JSON of a form that its readers know.
JsonObject = dict[str, Any]


def _of_unfinished(name: str, column: str) -> Index:
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


class Project(Table):
    """Owner of every other resource."""

    __tablename__ = "projects"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(256))
    created_at: Mapped[float] = mapped_column(Double)


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
    # The key that made it. NULL: the operator, on the machine itself.
    created_by: Mapped[str | None] = mapped_column(String(64))
    # Within seconds; NULL: never.
    last_used_at: Mapped[float | None] = mapped_column(Double)


class File(Table):
    """An uploaded or produced file; the bytes lie in storage under ``files/<id>``."""

    __tablename__ = "files"
    __table_args__ = (
        Index("ix_files_listing", "project_id", "created_at", "id"),
        Index("ix_files_purpose", "project_id", "purpose", "created_at", "id", postgresql_include=["bytes"]),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    created_at: Mapped[float] = mapped_column(Double)
    filename: Mapped[str] = mapped_column(String(512))
    purpose: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    rows: Mapped[int | None] = mapped_column(BigInteger)
    # Dotted key -> {"count": rows that have it, "first_missing": line of the first row without it}:
    # lets a job's grader template be checked against the whole file without reading it again.
    fields: Mapped[JsonObject | None] = mapped_column(Json)


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
        _of_unfinished("ix_jobs_open_training_file", "training_file"),
        _of_unfinished("ix_jobs_open_validation_file", "validation_file"),
        _of_unfinished("ix_jobs_open_model", "model"),
        _of_unfinished("ix_jobs_open_project", "project_id"),
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
    # Of the run's folder, as its worker last measured it.
    disk_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # How many it has (app.checkpoints.repository): a project's hundred thousands take long to count.
    checkpoints: Mapped[int] = mapped_column(Integer, default=0, server_default="0")


# Waiting jobs in the order of their turn (app.jobs.order).
Index(
    "ix_jobs_due",
    Job.project_id,
    Job.priority.desc(),
    Job.created_at,
    Job.id,
    # No row is read for these; SQLite wants the last one, too.
    Job.not_before,
    Job.cancel_requested,
    Job.status,
    postgresql_where=text("status = 'queued'"),
    sqlite_where=text("status = 'queued'"),
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


class MetricSeries(Table):
    """A named series of a job; points refer to its number, so a point stays small."""

    __tablename__ = "metric_series"
    __table_args__ = (UniqueConstraint("job_id", "name"),)
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))


class MetricPoint(Table):
    """One value of one series at one step, whichever attempt wrote it, until it is packed (MetricBlock)."""

    __tablename__ = "metric_points"
    __table_args__ = ({"sqlite_with_rowid": False},)
    series_id: Mapped[int] = mapped_column(
        ForeignKey("metric_series.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    step: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    value: Mapped[float] = mapped_column(Double)


class MetricBlock(Table):
    """The points of one series at a run of steps, packed as ``app.series.blocks`` says."""

    __tablename__ = "metric_blocks"
    series_id: Mapped[int] = mapped_column(
        ForeignKey("metric_series.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    packed: Mapped[bytes] = mapped_column(LargeBinary)


class JobOutcomes(Table):
    """A job's last evaluation, item by item: what runs are compared by, in pairs."""

    __tablename__ = "job_outcomes"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(Integer)
    # {"N": {"graded": [...], "correct": [...], "reward": [...]}, "H": ...}
    modes: Mapped[JsonObject] = mapped_column(Json)


class Rollout(Table):
    """One sampled response of a job's step."""

    __tablename__ = "rollouts"
    __table_args__ = (
        UniqueConstraint("job_id", "step", "group", "index"),
        Index("ix_rollouts_item", "job_id", "item", "step", "group", "index"),
    )
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    step: Mapped[int] = mapped_column(Integer)
    group: Mapped[int] = mapped_column(Integer)
    index: Mapped[int] = mapped_column(Integer)
    item: Mapped[int] = mapped_column(BigInteger)
    mode: Mapped[str] = mapped_column(String(16))
    prompt: Mapped[str] = mapped_column(Text)
    response: Mapped[str] = mapped_column(Text)
    reward: Mapped[float | None] = mapped_column(Double)
    tokens: Mapped[int] = mapped_column(Integer)
    truncated: Mapped[bool] = mapped_column(Boolean)
    # Means over its tokens, nats; NULL: not known (rollouts before 0022 among them).
    entropy: Mapped[float | None] = mapped_column(Double)
    surprisal: Mapped[float | None] = mapped_column(Double)
    # {"scores": {...}, "logprobs": [...], "entropies": [...], "token_texts": [...], "dropped": ...}
    details: Mapped[JsonObject] = mapped_column(Json)


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


class WebhookEndpoint(Table):
    """A URL that is told of the ends of a project's jobs. Its secrets sign: they are sealed, not hashed."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index("ix_webhook_endpoints_listing", "project_id", "created_at", "id"),)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    created_at: Mapped[float] = mapped_column(Double)
    updated_at: Mapped[float] = mapped_column(Double)
    name: Mapped[str] = mapped_column(String(256))
    url: Mapped[str] = mapped_column(Text)
    event_types: Mapped[list[str]] = mapped_column(Json)
    secret: Mapped[str] = mapped_column(Text)
    previous_secret: Mapped[str | None] = mapped_column(Text)
    previous_secret_until: Mapped[float | None] = mapped_column(Double)


class WebhookDelivery(Table):
    """An event on its way to one endpoint: the outbox, and afterwards the log."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_due", "next_attempt_at"),
        Index("ix_webhook_deliveries_listing", "endpoint_id", "created_at", "id"),
        Index(
            "ix_webhook_deliveries_over",
            "created_at",
            postgresql_where=text("next_attempt_at IS NULL"),
            sqlite_where=text("next_attempt_at IS NULL"),
        ),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    created_at: Mapped[float] = mapped_column(Double)
    event_id: Mapped[str] = mapped_column(String(64))
    event_type: Mapped[str] = mapped_column(String(64))
    payload: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer)
    # NULL: no further attempt.
    next_attempt_at: Mapped[float | None] = mapped_column(Double)


class WebhookAttempt(Table):
    """What came of one attempt at a delivery."""

    __tablename__ = "webhook_attempts"
    __table_args__ = (Index("ix_webhook_attempts_delivery", "delivery_id", "id"),)
    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_deliveries.id", ondelete="CASCADE"))
    created_at: Mapped[float] = mapped_column(Double)
    seconds: Mapped[float] = mapped_column(Double)
    status_code: Mapped[int | None] = mapped_column(Integer)
    error: Mapped[str | None] = mapped_column(Text)


class InferenceWorker(Table):
    """A process that runs engine servers; the gateway sends requests to its ``url``.

    ``features``: parameters of requests that its engine has beyond those that all have. ``active``: requests
    that it was answering at the last heartbeat.
    """

    __tablename__ = "inference_workers"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    url: Mapped[str] = mapped_column(String(512))
    started_at: Mapped[float] = mapped_column(Double)
    heartbeat_at: Mapped[float] = mapped_column(Double)
    loaded: Mapped[list[str]] = mapped_column(Json, default=list)
    engine: Mapped[str] = mapped_column(String(64), server_default="transformers")
    features: Mapped[list[str]] = mapped_column(Json, server_default="[]")
    active: Mapped[int] = mapped_column(Integer, server_default="0")
