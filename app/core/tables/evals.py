"""Evals, their runs, and what each run made of each item."""

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.strict_json import JsonObject
from app.core.tables.base import Double, Json, Table

_OPEN = "finished_at IS NULL"


class Eval(Table):
    """What is asked of every run of it: the form of items, and the criteria that answers are graded by."""

    __tablename__ = "evals"
    __table_args__ = (
        UniqueConstraint("project_id", "idempotency_key"),
        Index("ix_evals_listing", "project_id", "created_at", "id"),
        Index("ix_evals_updated", "project_id", "updated_at", "id"),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Double)
    updated_at: Mapped[float] = mapped_column(Double)
    name: Mapped[str] = mapped_column(String(256))
    data_source_config: Mapped[JsonObject] = mapped_column(Json)
    # Graders as they were given, each with a name that no other of them has.
    testing_criteria: Mapped[list[JsonObject]] = mapped_column(Json)
    user_metadata: Mapped[dict[str, str] | None] = mapped_column(Json)


class EvalRun(Table):
    """One model on the items of one source. A worker's: ``attempt`` and owner are the fencing token."""

    __tablename__ = "eval_runs"
    __table_args__ = (
        UniqueConstraint("project_id", "idempotency_key"),
        Index("ix_eval_runs_listing", "eval_id", "created_at", "id"),
        Index("ix_eval_runs_project", "project_id", "id"),
        Index("ix_eval_runs_finished", "finished_at"),
        # What is asked of runs that have not ended, however many have.
        Index(
            "ix_eval_runs_open",
            "status",
            "created_at",
            postgresql_where=text(_OPEN),
            sqlite_where=text(_OPEN),
        ),
        Index(
            "ix_eval_runs_open_project",
            "project_id",
            "total",
            postgresql_where=text(_OPEN),
            sqlite_where=text(_OPEN),
        ),
        Index("ix_eval_runs_open_file", "file_id", postgresql_where=text(_OPEN), sqlite_where=text(_OPEN)),
        Index("ix_eval_runs_open_model", "weights", postgresql_where=text(_OPEN), sqlite_where=text(_OPEN)),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    eval_id: Mapped[str] = mapped_column(ForeignKey("evals.id"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Double)
    started_at: Mapped[float | None] = mapped_column(Double)
    finished_at: Mapped[float | None] = mapped_column(Double)
    # queued, in_progress, pausing, paused, completed, failed, canceled (app.evals.status)
    status: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(256))
    model: Mapped[str] = mapped_column(String(512))
    mode: Mapped[str | None] = mapped_column(String(16))
    # The name that the model's checkpoint has, without a mode: it must not go while it is asked.
    weights: Mapped[str | None] = mapped_column(String(512))
    file_id: Mapped[str | None] = mapped_column(String(64))
    # As it was given; rows that stood in it are in ``inline_rows``.
    data_source: Mapped[JsonObject] = mapped_column(Json)
    inline_rows: Mapped[list[JsonObject] | None] = mapped_column(Json, deferred=True)
    seed: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[int] = mapped_column(Integer)
    passed: Mapped[int] = mapped_column(Integer, default=0)
    failed: Mapped[int] = mapped_column(Integer, default=0)
    errored: Mapped[int] = mapped_column(Integer, default=0)
    # By criterion, in their order: {"passed", "failed", "errored", "score"}, score a sum of those graded.
    criteria: Mapped[list[JsonObject]] = mapped_column(Json)
    # By model: {"invocation_count", "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"}.
    usage: Mapped[JsonObject] = mapped_column(Json)
    error: Mapped[JsonObject | None] = mapped_column(Json)
    user_metadata: Mapped[dict[str, str] | None] = mapped_column(Json)
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    pause_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[float | None] = mapped_column(Double)


class EvalOutputItem(Table):
    """What a run made of one item: the answer and its grades. No run has an item twice."""

    __tablename__ = "eval_output_items"
    __table_args__ = (
        UniqueConstraint("run_id", "position"),
        Index("ix_eval_output_items_status", "run_id", "status", "position"),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("eval_runs.id", ondelete="CASCADE"))
    # Place of the item in its source, from 0.
    position: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[float] = mapped_column(Double)
    # pass, fail, error
    status: Mapped[str] = mapped_column(String(8))
    item: Mapped[JsonObject] = mapped_column(Json)
    # Of the item: the same item of another run has the same.
    item_key: Mapped[str] = mapped_column(String(32))
    # Rewards from 0 to 1 by criterion, in their order; null: an error.
    rewards: Mapped[list[float | None]] = mapped_column(Json)
    results: Mapped[list[JsonObject]] = mapped_column(Json)
    sample: Mapped[JsonObject | None] = mapped_column(Json)
