"""What a job's model answered: responses of its steps, and its last evaluation."""

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.core.tables.base import BigId, Double, Json, JsonObject, Table


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


class JobOutcomes(Table):
    """A job's last evaluation, item by item: what runs are compared by, in pairs."""

    __tablename__ = "job_outcomes"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(Integer)
    # {"N": {"graded": [...], "correct": [...], "reward": [...]}, "H": ...}
    modes: Mapped[JsonObject] = mapped_column(Json)
