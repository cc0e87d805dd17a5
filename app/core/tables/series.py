"""The curves of a job's metrics."""

from sqlalchemy import ForeignKey, Integer, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.core.tables.base import BigId, Double, Table


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
