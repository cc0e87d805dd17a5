"""An estimate as the API's description has it; ``app.estimates.service`` makes it."""

from typing import Literal

from pydantic import BaseModel, Field

EstimateStatus = Literal["queued", "running", "succeeded", "failed"]


class Interval(BaseModel):
    """A number that is expected, and between what it probably is."""

    value: float
    low: float
    high: float


class PeakMemory(Interval):
    """Bytes, of the device that trains; on a CPU the process's resident memory."""

    device: str


class EstimateResult(BaseModel):
    """What a job would take, in seconds and bytes."""

    peak_memory_bytes: PeakMemory
    seconds_per_step: Interval = Field(description="A step, without evaluation, checkpoint and diagnostics")
    total_seconds: Interval = Field(description="From its start on a worker to its end, with all of these")
    total_steps: int
    probe: dict[str, float] = Field(description="What was measured: seconds of each phase, steps tried")


class EstimateError(BaseModel):
    """Why there is no result: what the job itself would have failed with."""

    code: str
    message: str
    param: str | None


class EstimateObject(BaseModel):
    """An estimate."""

    id: str
    object: Literal["fine_tuning.estimate"]
    created_at: int
    finished_at: int | None
    status: EstimateStatus
    model: str
    result: EstimateResult | None
    error: EstimateError | None
