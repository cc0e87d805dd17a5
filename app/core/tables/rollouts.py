"""What a job's model answered: responses of its steps, and its last evaluation."""

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.core.strict_json import JsonObject
from app.core.tables.base import BigId, Double, Json, Table


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


class RolloutArchive(Table):
    """A part of the archive of an ended job's rollouts: files of those from one to another, in their order.

    The files are there before the row is (``app.rollouts.archive``).
    """

    __tablename__ = "rollout_archives"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    # Of the job's parts, from 0.
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    # Of the list of its files (app.core.store.trees).
    digest: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    # How many rollouts it has; the steps of the first and of the last one, and the whole key of that.
    count: Mapped[int] = mapped_column(Integer)
    first_step: Mapped[int] = mapped_column(Integer)
    last_step: Mapped[int] = mapped_column(Integer)
    last_group: Mapped[int] = mapped_column(Integer)
    last_index: Mapped[int] = mapped_column(Integer)
    # The smallest and the largest ``id`` among them.
    lowest_id: Mapped[int] = mapped_column(BigInteger)
    highest_id: Mapped[int] = mapped_column(BigInteger)
    # No rollouts of the job come after it.
    complete: Mapped[bool] = mapped_column(Boolean)
    # Its rows are gone, or going, and it is read for them. So of all parts of a job or none.
    sole: Mapped[bool] = mapped_column(Boolean, default=False)


class JobOutcomes(Table):
    """A job's last evaluation, item by item: what runs are compared by, in pairs."""

    __tablename__ = "job_outcomes"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(Integer)
    # {"N": {"graded": [...], "correct": [...], "reward": [...]}, "H": ...}
    modes: Mapped[JsonObject] = mapped_column(Json)
