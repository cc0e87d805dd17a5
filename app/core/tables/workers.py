"""Processes that work: those that train, and those that serve models."""

from sqlalchemy import Boolean, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.strict_json import JsonObject
from app.core.tables.base import Double, Json, Table


class TrainingWorker(Table):
    """A process that runs jobs. Its ``id`` is what it owns leases as.

    ``gpus``: the devices that it may use, as CUDA names them. ``draining``: it takes no more jobs. ``ray``:
    the cluster that it starts runs on (``worker.ray_cluster``). ``cache``: of its host (``worker.presence``).
    ``memory``: what a job would have there (``worker.registration``); none in rows of releases of before.
    """

    __tablename__ = "training_workers"
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    host: Mapped[str] = mapped_column(String(256))
    version: Mapped[str] = mapped_column(String(64))
    slots: Mapped[int] = mapped_column(Integer)
    gpus: Mapped[list[str]] = mapped_column(Json, default=list)
    started_at: Mapped[float] = mapped_column(Double)
    heartbeat_at: Mapped[float] = mapped_column(Double)
    draining: Mapped[bool] = mapped_column(Boolean, default=False)
    ray: Mapped[JsonObject | None] = mapped_column(Json)
    cache: Mapped[JsonObject | None] = mapped_column(Json)
    memory: Mapped[JsonObject | None] = mapped_column(Json)


class InferenceWorker(Table):
    """A process that runs engine servers; the gateway sends requests to its ``url``.

    ``features``: parameters of requests that its engine has beyond those that all have. ``active``: requests
    that it was answering at the last heartbeat. ``host`` and ``version`` are empty where a release of before
    wrote the row. ``cache``: of its host (``worker.presence``).
    """

    __tablename__ = "inference_workers"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    url: Mapped[str] = mapped_column(String(512))
    host: Mapped[str] = mapped_column(String(256), server_default="")
    version: Mapped[str] = mapped_column(String(64), server_default="")
    gpus: Mapped[list[str]] = mapped_column(Json, server_default="[]")
    started_at: Mapped[float] = mapped_column(Double)
    heartbeat_at: Mapped[float] = mapped_column(Double)
    loaded: Mapped[list[str]] = mapped_column(Json, default=list)
    engine: Mapped[str] = mapped_column(String(64), server_default="transformers")
    features: Mapped[list[str]] = mapped_column(Json, server_default="[]")
    active: Mapped[int] = mapped_column(Integer, server_default="0")
    cache: Mapped[JsonObject | None] = mapped_column(Json)
