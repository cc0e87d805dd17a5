"""Workers and the queue on the wire."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import Kind
from app.core.live_workers import WorkerStatus

WaitsFor = Literal["worker", "undrain", "slot", "time", "pickup"]


class WorkerObject(BaseModel):
    """A process that runs jobs, or one that serves models."""

    id: str = Field(description="Id of the worker, which is new each time that it starts")
    object: Kind[Literal["worker"]]
    type: Literal["training", "inference"] = Field(
        description="training: it runs jobs; inference: it serves models"
    )
    status: WorkerStatus = Field(
        description="online: it works; draining: it takes no more jobs, and what it runs goes on; lost: it "
        "is silent for longer than a lease lasts"
    )
    host: str | None = Field(description="Name of its machine; null: a release of before does not say")
    version: str | None = Field(description="Its version of policysplit; null likewise")
    started_at: int = Field(description="When it started, Unix time in seconds")
    heartbeat_at: int = Field(description="When it was last heard of, Unix time in seconds")
    gpus: list[str] = Field(
        description="The GPUs that it may use, as CUDA names them; none: it works on the CPU"
    )
    slots: int | None = Field(description="How many jobs it runs at a time; null for inference")
    running: int = Field(description="How many jobs it runs, or requests that it is answering")
    jobs: list[str] = Field(
        description="Ids of the jobs that it runs: those of the caller's project, and for the operator all"
    )
    engine: str | None = Field(description="What serves the models: transformers, vllm; null for training")
    models_loaded: int | None = Field(description="How many models it has in memory; null for training")


class ProjectInQueue(BaseModel):
    """What a project has in the queue."""

    project_id: str = Field(description="The project whose jobs these are")
    waiting: int = Field(description="How many of its jobs wait and could run at once")
    later: int = Field(description="How many wait for a time of their own, after an attempt that failed")
    running: int = Field(description="How many of its jobs a worker has")
    oldest_at: int | None = Field(
        description="When the job was made that could run and is the oldest, Unix time; null: none waits"
    )


class WaitingJob(BaseModel):
    """A job that waits."""

    id: str = Field(description="Id of the job, `ftjob-…`")
    name: str = Field(description="What people call the job")
    project_id: str = Field(description="The project that made it")
    queue_position: int = Field(description="Its place among all that could run; 1 is next")
    created_at: int = Field(description="When it was made, Unix time in seconds")


class Queue(BaseModel):
    """What waits for workers, and why."""

    object: Kind[Literal["queue"]]
    waiting: int = Field(description="Jobs of all projects that wait and could run at once")
    running: int = Field(description="Jobs of all projects that a worker has")
    workers: int = Field(description="Training workers that take jobs")
    draining: int = Field(description="Training workers that take no more")
    slots: int = Field(description="How many jobs the workers that take some can run at a time")
    free_slots: int = Field(description="How many more these could run now")
    waits_for: WaitsFor | None = Field(
        description="What the next job waits for. worker: none is connected; undrain: all that are connected "
        "drain; slot: all slots are taken; pickup: nothing, a free worker takes it within moments; time: all "
        "that wait are to be tried again later; null: no job waits"
    )
    message: str = Field(description="The same in a sentence")
    projects: list[ProjectInQueue] = Field(
        description="The caller's project; for the operator each that has jobs in the queue"
    )
    next: list[WaitingJob] = Field(
        description="The first that come up, twenty at most: of the caller's project, for the operator of all"
    )
