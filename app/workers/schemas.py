"""Workers and the queue on the wire."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import Kind
from app.core.live_workers import WorkerStatus

WaitsFor = Literal["worker", "undrain", "slot", "gpus", "cluster", "time", "pickup"]


class RayClusterView(BaseModel):
    """A Ray cluster, as last reported by a worker."""

    address: str = Field(description="Address of its head, as host:port")
    device: Literal["gpu", "cpu"] = Field(description="Device that each process of a job uses on it")
    hosts: list[int] = Field(description="Number of these devices on each of its hosts, largest first")
    problem: str | None = Field(description="Why the cluster did not answer; null if it did")


class CacheView(BaseModel):
    """What a worker's host has at hand of the artefact store."""

    bytes: int = Field(description="Its size, up to a minute ago")
    limit_bytes: int | None = Field(
        description="Its limit, beyond which the least recently used goes; null: unlimited"
    )


class MemoryView(BaseModel):
    """How much memory a job would have on a worker."""

    host_bytes: int = Field(
        description="The host's memory with its swap, or the limit of the worker's control group"
    )
    gpu_bytes: list[int] = Field(
        description="Memory of each GPU it may use; empty: it has none, or the driver does not say"
    )


class WorkerObject(BaseModel):
    """A process that runs jobs, or one that serves models."""

    id: str = Field(description="Id of the worker, new each time it starts")
    object: Kind[Literal["worker"]]
    type: Literal["training", "inference"] = Field(
        description="training: it runs jobs; inference: it serves models"
    )
    status: WorkerStatus = Field(
        description="online: working; draining: finishing its jobs and taking no more; lost: silent for "
        "longer than a lease lasts"
    )
    host: str | None = Field(description="Name of its machine; null for older releases")
    version: str | None = Field(description="Its version of policysplit; null for older releases")
    started_at: int = Field(description="When it started, Unix time in seconds")
    heartbeat_at: int = Field(description="When it was last heard from, Unix time in seconds")
    gpus: list[str] = Field(description="The GPUs it may use, as CUDA names them; empty: it uses the CPU")
    slots: int | None = Field(description="Number of jobs it can run at a time; null for inference")
    slots_taken: int | None = Field(
        description="How many of them its jobs take: a job of several GPUs takes several; null for inference"
    )
    running: int = Field(description="Number of jobs it is running, or requests it is answering")
    jobs: list[str] = Field(
        description="Ids of the jobs it is running: those of the caller's project, or all for the operator"
    )
    engine: str | None = Field(
        description="What serves the models, such as transformers or vllm; null for training"
    )
    models_loaded: int | None = Field(description="Number of models it has loaded; null for training")
    models: list[str] = Field(
        description="Which of them are base models or the caller's project's, or all for the operator; empty "
        "for training"
    )
    cache: CacheView | None = Field(
        description="Its host's cache of the artefact store; null: it has no store"
    )
    memory: MemoryView | None = Field(
        description="How much memory a job would have on it; null for inference and for older releases"
    )
    ray: RayClusterView | None = Field(
        description="The Ray cluster on which it runs jobs with launcher `ray`; null: it runs none"
    )


class ProjectInQueue(BaseModel):
    """A project's jobs in the queue."""

    project_id: str = Field(description="The project whose jobs these are")
    waiting: int = Field(description="Number of its jobs that are ready and waiting")
    later: int = Field(description="Number of its jobs waiting to be retried later, after a failed attempt")
    running: int = Field(description="Number of its jobs that are running")
    oldest_at: int | None = Field(
        description="When the oldest ready job was created, Unix time in seconds; null if none waits"
    )


class WaitingJob(BaseModel):
    """A waiting job."""

    id: str = Field(description="Id of the job, `ftjob-…`")
    name: str = Field(description="Display name of the job")
    project_id: str = Field(description="The project it belongs to")
    gpus: int = Field(description="GPUs it needs together on one worker, or slots if workers have no GPUs")
    queue_position: int = Field(description="Its place among all ready jobs; 1 is next")
    created_at: int = Field(description="When it was created, Unix time in seconds")


class Queue(BaseModel):
    """What waits for workers, and why."""

    object: Kind[Literal["queue"]]
    waiting: int = Field(description="Jobs of all projects that are ready and waiting")
    running: int = Field(description="Running jobs of all projects")
    workers: int = Field(description="Training workers that take jobs")
    draining: int = Field(description="Training workers that are draining")
    slots: int = Field(description="Number of jobs that workers taking jobs can run at a time")
    free_slots: int = Field(description="Number of further one-GPU jobs they could run now")
    largest_free_block: int = Field(
        description="Most GPUs that are free together on one worker, or slots if workers have no GPUs"
    )
    waits_for: WaitsFor | None = Field(
        description="What the next job waits for. worker: none is connected; undrain: all connected "
        "workers are draining; slot: all slots are taken; gpus: no worker has enough free GPUs for any "
        "waiting job; cluster: no worker with a free slot has a Ray cluster that answers; pickup: nothing, "
        "a free worker takes it within moments; time: all waiting jobs are retried later; null: no job "
        "waits"
    )
    message: str = Field(description="The same in a sentence")
    projects: list[ProjectInQueue] = Field(
        description="The caller's project, or for the operator all with jobs in the queue"
    )
    next: list[WaitingJob] = Field(
        description="The next to run, at most twenty: of the caller's project, or of all for the operator"
    )
