"""Processes that serve models."""

from sqlalchemy import Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.tables.base import Double, Json, Table


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
