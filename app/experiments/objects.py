"""Experiments as the API's description has them; ``app.experiments.service`` and ``results`` make them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.core.description import CreatedAt, Kind
from app.core.job_status import JobStatus
from app.jobs.objects import Interval, Progress
from trainer.statistics.run_results import Plan, RunStatus


class ExperimentProgress(BaseModel):
    """Runs. Those without a job yet are ``waiting``, those that no job could be made of ``refused``."""

    runs: int = Field(description="Runs that the experiment has: arms × tasks × seeds")
    ended: int = Field(description="Of these, how many have ended, well or not")
    by_status: dict[str, int] = Field(description="How many runs are in each status")


class ExperimentObject(BaseModel):
    """Arms on tasks with seeds."""

    id: str = Field(description="Id of the experiment, `exp_…`")
    object: Kind[Literal["experiment"]]
    created_at: CreatedAt
    name: str = Field(description="What it was called when it was made")
    status: Literal["running", "completed", "cancelled", "out_of_budget"] = Field(
        description="running until all runs have ended; out_of_budget: budget.run_hours is used up and no "
        "further run starts"
    )
    progress: ExperimentProgress = Field(description="How far its runs are")
    definition: dict[str, Any] = Field(description="The request with its defaults, and what was added since")
    metadata: dict[str, str] | None = Field(
        description="Pairs that were given with it; null where there are none"
    )


class ExperimentRunObject(BaseModel):
    """One arm on one task with one seed."""

    arm: str = Field(description="The arm that is trained")
    task: str = Field(description="The task that it is trained on")
    seed: int = Field(description="The seed of its sampling and of its items")
    job_id: str | None = Field(description="The fine-tuning job that runs it; null until it has one")
    status: Literal["waiting", "refused"] | JobStatus = Field(
        description="The job's status; waiting: not started yet; refused: no job could be made of it"
    )
    progress: Progress | None = Field(description="Steps done of all; null without a job")
    error: dict[str, Any] | None = Field(description="Why it was refused or failed; null otherwise")


class ExperimentWithRuns(ExperimentObject):
    """One experiment with all of its runs, in the order in which they start."""

    runs: list[ExperimentRunObject] = Field(description="All runs, in the order in which they start")


class KindOfRun(BaseModel):
    """An arm on a task: runs that differ in the seed alone."""

    arm: str = Field(description="The arm that would be trained")
    task: str = Field(description="The task that it would be trained on")
    runs: int = Field(description="How many there would be: one a seed")
    total_steps: int = Field(description="Training steps of each of these runs")
    seconds: Interval | None = Field(
        description="What each would take, by earlier jobs of the same model and size; null where none was"
    )
    job: dict[str, Any] = Field(
        description="The request for the first seed's job, but for its metadata, as POST "
        "/v1/fine_tuning/jobs/estimate takes it"
    )


class ExperimentValidation(BaseModel):
    """A body that would be taken, and the runs that it would make."""

    object: Kind[Literal["experiment.validation"]]
    valid: Literal[True] = Field(description="Always true: what is not valid is answered with an error")
    runs: int = Field(description="Runs that would be made; of an extension, those that it adds")
    total_steps: int = Field(description="Training steps of all these runs together")
    total_seconds: Interval | None = Field(
        description="What all of them would take one after another; null where that of a kind is not known"
    )
    measured_on: list[str] = Field(description="Ids of the earlier jobs that the seconds are taken from")
    kinds: list[KindOfRun] = Field(description="Each arm on each task, with its runs")
    notes: list[str] = Field(description="Sentences on what to keep in mind before it is made")


class ReportedExperiment(BaseModel):
    """Which experiment a report is of."""

    id: str = Field(description="What it is asked for by, `exp_…`")
    name: str = Field(description="What it was called when it was made")
    created_at: CreatedAt


class Winner(BaseModel):
    """The arm that wins on every task; null where the results do not say so."""

    arm: str | None = Field(description="Its name; null where no arm may be called the winner")
    sentence: str = Field(description="The same in words, with what is missing for a verdict")


class SynergyRule(BaseModel):
    """Whether the two modes together do what none of the controls does, on a task."""

    task: str = Field(description="The task that this is about")
    claimed: bool | None = Field(
        description="null: no control speaks against it, but not all have seeds enough, or runs wait"
    )
    reasons: list[str] = Field(description="One sentence a control: what speaks for or against the claim")
    comparisons: list[dict[str, Any]] = Field(
        description="The comparisons with the controls that the rule reads, with differences and intervals"
    )


class SameRuns(BaseModel):
    """Arms whose runs have the same outcomes, to the last answer, in every seed."""

    task: str = Field(description="The task on which they are the same")
    arms: list[str] = Field(description="Two or more that came to the very same")


class ReportedRun(BaseModel):
    """A run, and what it took. ``id``: the job's."""

    arm: str = Field(description="The arm that was trained")
    task: str = Field(description="The task that it was trained on")
    seed: int = Field(description="What its randomness was derived from")
    status: RunStatus = Field(
        description="Where the run stands; all but succeeded are listed and count nowhere else"
    )
    id: str | None = Field(description="The job's id; null while the run waits")
    error: str | None = Field(description="Why it failed; null otherwise")
    samples_generated: float = Field(description="Responses that were sampled in training")
    tokens_trained: float = Field(description="Response tokens that were trained on, each as often as it was")
    seconds: float = Field(description="Time that its training steps took, in seconds")


class ReportObject(BaseModel):
    """What may be said of the results so far (``trainer.statistics.analysis``)."""

    object: Kind[Literal["experiment.report"]]
    experiment: ReportedExperiment = Field(description="Which experiment this is about")
    plan: Plan = Field(description="What was to be compared, as it was said before the results")
    method: dict[str, float] = Field(
        description="How the numbers were made: draws of the bootstrap, alpha, power, least seeds, levels "
        "of the families"
    )
    progress: dict[str, int] = Field(description="How many runs are in each status")
    claims: list[dict[str, Any]] = Field(
        description="By task: the method against every baseline, or against the arm that was named; the "
        "figures are of the one that is hardest to beat"
    )
    winner: Winner = Field(description="Which arm wins on every task, if one does")
    synergy: list[SynergyRule] = Field(description="The rule for a synergy of the two modes, by task")
    against_method: list[dict[str, Any]] = Field(description="The method against every other arm")
    same_runs: list[SameRuns] = Field(description="Arms that are one and the same with these settings")
    arms: list[dict[str, Any]] = Field(description="By task and arm: scores, curves, diagnostics, cost")
    runs: list[ReportedRun] = Field(description="Every run with its cost")
    notes: list[str] = Field(
        description="Sentences on what to keep in mind: missing seeds, failed runs, items without a score"
    )
