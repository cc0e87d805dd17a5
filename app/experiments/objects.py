"""Experiments as the API's description has them; ``app.experiments.service`` and ``results`` make them."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import CreatedAt, Kind
from app.core.job_status import JobStatus
from app.core.strict_json import JsonObject
from app.jobs.objects import Interval, Progress
from trainer.statistics.run_results import Plan, RunStatus


class ExperimentProgress(BaseModel):
    """Runs. Those without a job yet are ``waiting``; those for which none can be created, ``refused``."""

    runs: int = Field(description="Runs of the experiment: arms × tasks × seeds")
    ended: int = Field(description="How many of them have ended, successfully or not")
    by_status: dict[str, int] = Field(description="Number of runs by status")


class ExperimentObject(BaseModel):
    """Arms × tasks × seeds."""

    id: str = Field(description="Id of the experiment, `exp_…`")
    object: Kind[Literal["experiment"]]
    created_at: CreatedAt
    name: str = Field(description="Its name, as given on creation")
    status: Literal["running", "completed", "cancelled", "out_of_budget"] = Field(
        description="running until all runs have ended; out_of_budget: budget.run_hours is used up and no "
        "further run starts"
    )
    progress: ExperimentProgress = Field(description="How many of its runs are done")
    definition: JsonObject = Field(description="The request with its defaults, and later additions")
    metadata: dict[str, str] | None = Field(description="The pairs given with it; null if none")


class ExperimentRunObject(BaseModel):
    """One arm on one task with one seed."""

    arm: str = Field(description="The arm being trained")
    task: str = Field(description="The task it is trained on")
    seed: int = Field(description="The seed of its sampling and items")
    job_id: str | None = Field(description="Its fine-tuning job; null until it has one")
    status: Literal["waiting", "refused"] | JobStatus = Field(
        description="The job's status; waiting: not started yet; refused: no job could be created"
    )
    progress: Progress | None = Field(description="Steps done and in total; null without a job")
    error: JsonObject | None = Field(description="Why it was refused or failed; null otherwise")


class ExperimentWithRuns(ExperimentObject):
    """One experiment with all of its runs, in the order in which they start."""

    runs: list[ExperimentRunObject] = Field(description="All runs, in starting order")


class KindOfRun(BaseModel):
    """An arm on a task: runs that differ only in the seed."""

    arm: str = Field(description="The arm to be trained")
    task: str = Field(description="The task to train it on")
    runs: int = Field(description="Number of runs: one per seed")
    total_steps: int = Field(description="Training steps of each run")
    seconds: Interval | None = Field(
        description="Estimated seconds per run, from earlier jobs with the same model and size; null if "
        "there are none"
    )
    job: JsonObject = Field(
        description="The request for the first seed's job, without metadata, as accepted by POST "
        "/v1/fine_tuning/jobs/estimate"
    )


class ExperimentValidation(BaseModel):
    """A body that would be accepted, and the runs it would create."""

    object: Kind[Literal["experiment.validation"]]
    valid: Literal[True] = Field(description="Always true: an invalid body is answered with an error")
    runs: int = Field(description="Number of runs to be created; for an extension, only those added")
    total_steps: int = Field(description="Total training steps of all these runs")
    total_seconds: Interval | None = Field(
        description="Estimated seconds for all of them in sequence; null if unknown for any"
    )
    measured_on: list[str] = Field(description="Ids of the earlier jobs used for the estimate")
    kinds: list[KindOfRun] = Field(description="Each arm on each task, with its runs")
    notes: list[str] = Field(description="Remarks to consider before creating it")


class ReportedExperiment(BaseModel):
    """The experiment of a report."""

    id: str = Field(description="Id of the experiment, `exp_…`")
    name: str = Field(description="Its name, as given on creation")
    created_at: CreatedAt


class Winner(BaseModel):
    """The arm that wins on every task; null if the results do not show one."""

    arm: str | None = Field(description="Name of the winning arm; null if there is none")
    sentence: str = Field(description="The verdict in words, with anything missing for one")


class SynergyRule(BaseModel):
    """Whether the two modes together beat all controls, on a task."""

    task: str = Field(description="The task it applies to")
    claimed: bool | None = Field(
        description="Whether the claim of synergy holds; null: no control contradicts it, but some lack "
        "seeds or finished runs"
    )
    reasons: list[str] = Field(description="One sentence per control: evidence for or against the claim")
    comparisons: list[JsonObject] = Field(
        description="The comparisons with the controls, with differences and intervals"
    )


class SameRuns(BaseModel):
    """Arms whose runs have identical outcomes, down to the last answer, in every seed."""

    task: str = Field(description="The task on which they are identical")
    arms: list[str] = Field(description="Two or more arms with identical results")


class ReportedRun(BaseModel):
    """A run and its cost. ``id``: the job's."""

    arm: str = Field(description="The arm that was trained")
    task: str = Field(description="The task it was trained on")
    seed: int = Field(description="What its sampling and the order of its items derive from")
    status: RunStatus = Field(description="Status of the run; only succeeded ones count in the figures")
    id: str | None = Field(description="The job's id; null while the run is waiting")
    error: str | None = Field(description="Why it failed; null otherwise")
    samples_generated: float = Field(description="Responses sampled in training")
    tokens_trained: float = Field(description="Response tokens trained on, counted each time")
    seconds: float = Field(description="Total time of its training steps, in seconds")


class ReportObject(BaseModel):
    """What the results so far show (``trainer.statistics.analysis``)."""

    object: Kind[Literal["experiment.report"]]
    experiment: ReportedExperiment = Field(description="The experiment the report is about")
    plan: Plan = Field(description="The planned comparison, as stated before the results")
    method: dict[str, float] = Field(
        description="How the numbers were computed: bootstrap draws, alpha, power, minimum seeds, levels "
        "of the families"
    )
    progress: dict[str, int] = Field(description="Number of runs by status")
    claims: list[JsonObject] = Field(
        description="By task: the method against every baseline, or against the named arm; the figures "
        "are those of the hardest to beat"
    )
    winner: Winner = Field(description="The arm that wins on every task, if any")
    synergy: list[SynergyRule] = Field(description="Verdict on synergy of the two modes, by task")
    against_method: list[JsonObject] = Field(description="The method against every other arm")
    same_runs: list[SameRuns] = Field(description="Arms that are identical with these settings")
    arms: list[JsonObject] = Field(description="By task and arm: scores, curves, diagnostics, cost")
    runs: list[ReportedRun] = Field(description="Every run with its cost")
    notes: list[str] = Field(description="Caveats: missing seeds, failed runs, items without a score")
