"""An estimate as the API's description has it; ``app.estimates.service`` makes it."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import CreatedAt, Kind
from app.jobs.objects import Interval

EstimateStatus = Literal["queued", "running", "succeeded", "failed"]


class PeakMemory(Interval):
    """Bytes, of the device that trains; on a CPU the process's resident memory."""

    device: str = Field(description="Name of the GPU whose memory this is, or cpu")


class PlannedMemory(BaseModel):
    """Memory for one thing."""

    what: str = Field(description="Purpose, such as weights, moments or activations")
    bytes: int = Field(description="Bytes per device")
    phase: Literal["always", "sampling", "update", "probes", "host"] = Field(
        description="When it is needed: always, or while sampling, updating or running diagnostics, "
        "one after the other; host: always, but in the host's memory instead of the GPU's"
    )


class PlannedPeak(BaseModel):
    """What the memory is for, calculated from the model's size for the longest prompts and responses."""

    peak_bytes: int = Field(description="Peak: what is always needed, plus the largest phase")
    certain_bytes: int = Field(
        description="What the job needs regardless of its data; with less memory it is refused"
    )
    lines: list[PlannedMemory] = Field(
        description="All parts of the sum, and what is in the host's memory instead"
    )


class EstimateResult(BaseModel):
    """What a job would take, in seconds and bytes."""

    peak_memory_bytes: PeakMemory = Field(description="The most memory that training uses at once")
    memory_plan: PlannedPeak | None = Field(
        default=None, description="What each training process uses memory for; null if not known"
    )
    seconds_per_step: Interval = Field(
        description="Seconds per step, without evaluation, checkpoints and diagnostics"
    )
    total_seconds: Interval = Field(
        description="Seconds from its start on a worker to its end, including all of these"
    )
    gpu_hours: Interval = Field(description="Those seconds times its GPUs, in hours; 0 on the CPU")
    total_steps: int = Field(description="Training steps the job would have")
    probe: dict[str, float] = Field(description="What was measured: seconds per phase, and steps run")


class EstimateError(BaseModel):
    """Why there is no result: what the job itself would have failed with."""

    code: str = Field(description="Machine-readable code, such as invalid_spec or out_of_memory")
    message: str = Field(description="What went wrong and what to change, in words")
    param: str | None = Field(
        description="The request's field at fault, as a dotted path; null if not a single one"
    )


class EstimateObject(BaseModel):
    """An estimate."""

    id: str = Field(description="Id of the estimate, `ftest-…`")
    object: Kind[Literal["fine_tuning.estimate"]]
    created_at: CreatedAt
    finished_at: int | None = Field(description="When it finished, Unix time in seconds; null until then")
    status: EstimateStatus = Field(
        description="queued until a worker is free, running while it measures, then succeeded or failed"
    )
    model: str = Field(description="The model the job would train")
    result: EstimateResult | None = Field(description="What was measured; null until it has succeeded")
    error: EstimateError | None = Field(description="Why it failed; null otherwise")
