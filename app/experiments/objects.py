"""Experiments as the API's description has them; ``app.experiments.service`` and ``results`` make them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.core.job_status import JobStatus
from app.jobs.objects import Progress
from trainer.statistics.run_results import Plan, RunStatus


class ExperimentProgress(BaseModel):
    """Runs. Those without a job yet are ``waiting``, those that no job could be made of ``refused``."""

    runs: int
    ended: int
    by_status: dict[str, int]


class ExperimentObject(BaseModel):
    """Arms on tasks with seeds."""

    id: str
    object: Literal["experiment"]
    created_at: int
    name: str
    status: Literal["running", "completed", "cancelled", "out_of_budget"]
    progress: ExperimentProgress
    definition: dict[str, Any] = Field(description="The request with its defaults, and what was added since")
    metadata: dict[str, str] | None


class ExperimentRunObject(BaseModel):
    """One arm on one task with one seed."""

    arm: str
    task: str
    seed: int
    job_id: str | None
    status: Literal["waiting", "refused"] | JobStatus
    progress: Progress | None
    error: dict[str, Any] | None


class ExperimentWithRuns(ExperimentObject):
    """One experiment with all of its runs, in the order in which they start."""

    runs: list[ExperimentRunObject]


class ReportedExperiment(BaseModel):
    """Which experiment a report is of."""

    id: str
    name: str
    created_at: int


class Winner(BaseModel):
    """The arm that wins on every task; null where the results do not say so."""

    arm: str | None
    sentence: str


class SynergyRule(BaseModel):
    """Whether the two modes together do what none of the controls does, on a task."""

    task: str
    claimed: bool | None = Field(
        description="null: no control speaks against it, but not all have seeds enough, or runs wait"
    )
    reasons: list[str]
    comparisons: list[dict[str, Any]]


class SameRuns(BaseModel):
    """Arms whose runs have the same outcomes, to the last answer, in every seed."""

    task: str
    arms: list[str]


class ReportedRun(BaseModel):
    """A run, and what it took. ``id``: the job's."""

    arm: str
    task: str
    seed: int
    status: RunStatus
    id: str | None
    error: str | None
    samples_generated: float
    tokens_trained: float
    seconds: float


class ReportObject(BaseModel):
    """What may be said of the results so far (``trainer.statistics.analysis``)."""

    object: Literal["experiment.report"]
    experiment: ReportedExperiment
    plan: Plan
    method: dict[str, float]
    progress: dict[str, int]
    claims: list[dict[str, Any]] = Field(
        description="By task: the method against every baseline, or against the arm that was named; the "
        "figures are of the one that is hardest to beat"
    )
    winner: Winner
    synergy: list[SynergyRule]
    against_method: list[dict[str, Any]] = Field(description="The method against every other arm")
    same_runs: list[SameRuns] = Field(description="Arms that are one and the same with these settings")
    arms: list[dict[str, Any]] = Field(description="By task and arm: scores, curves, diagnostics, cost")
    runs: list[ReportedRun]
    notes: list[str]
