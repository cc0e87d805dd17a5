"""What was used, summed up by day, and what it costs."""

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.strict_json import JsonObject
from app.core.tables.base import Double, Json, Table


class Usage(Table):
    """What a project used on a day (UTC): of a job, of a model that was asked, or by itself.

    A row never is one request: all of a kind are added to it (``app.accounting.counting``). It outlives the
    job.
    """

    __tablename__ = "usage"
    __table_args__ = (Index("ix_usage_day", "day"), Index("ix_usage_job", "job_id", "day"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    # 2026-11-29
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    # Empty where the use is not of a job, of a model, in a mode.
    job_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(512), primary_key=True)
    mode: Mapped[str] = mapped_column(String(16), primary_key=True)
    # Of attempts, whether they ended well or not; times the GPUs that they had.
    seconds: Mapped[float] = mapped_column(Double, default=0.0)
    gpu_seconds: Mapped[float] = mapped_column(Double, default=0.0)
    trained_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    sampled_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    gradings: Mapped[int] = mapped_column(BigInteger, default=0)
    requests: Mapped[int] = mapped_column(BigInteger, default=0)
    input_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    output_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    # The most that was seen on the day.
    storage_bytes: Mapped[int] = mapped_column(BigInteger, default=0)


class PriceList(Table):
    """What things cost from a day on, as the operator has set; the newest list of a day counts."""

    __tablename__ = "price_lists"
    since: Mapped[str] = mapped_column(String(10), primary_key=True)
    currency: Mapped[str] = mapped_column(String(3))
    # By app.usage.prices.Prices.
    prices: Mapped[JsonObject] = mapped_column(Json)
