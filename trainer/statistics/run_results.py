"""What an analysis takes in: the results of runs, and what was to be compared. Torch-free."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from trainer.graders.spec import StrictModel
from trainer.statistics.item_scores import metric_k
from trainer.statistics.outcomes import ModeLabel, ModeOutcomes, ScoredMode

#: ``waiting``: not started. A run that is not ``succeeded`` is listed and counts nowhere else.
RunStatus = Literal["waiting", "queued", "running", "succeeded", "failed", "cancelled"]
#: Of runs that have not ended.
OPEN: tuple[RunStatus, ...] = ("waiting", "queued", "running")
Point = tuple[int, float]

#: Metrics that a report draws over steps, by mode where they have one.
CURVES = (
    *(f"eval/{mode}/{name}" for name in ("accuracy", "reward", "entropy_nats") for mode in "NH"),
    *(f"train/{mode}/{name}" for name in ("reward", "entropy_nats") for mode in "NH"),
    "diag/kl_H_N/prefix_H",
    "eval/kl_H_N/prefix_H",
)
#: Metrics that a report gives as one number a run, by the start of their names.
DIAGNOSTICS = (
    *("diag/grad_cos", "diag/grad_bonus_ratio", "diag/grad_conflict_rate", "diag/hidden_"),
    *("diag/kl_", "diag/js/", "eval/kl_", "eval/js/", "eval/only_"),
    *(
        f"eval/{mode}/{name}"
        for mode in "NH"
        for name in ("entropy_nats", "length", "truncated", "repetition", "distinct2", "self_bleu4")
    ),
)
#: Of these the number is the mean over steps; of the others it is the last one.
AVERAGED = "diag/grad_"


def summarised(series: Mapping[str, Sequence[Point]]) -> tuple[dict[str, list[Point]], dict[str, float]]:
    """A run's curves and diagnostics, from all of its series as (step, value) in the order of steps."""
    curves = {name: list(points) for name, points in series.items() if name in CURVES and points}
    diagnostics: dict[str, float] = {}
    for name, points in series.items():
        if points and name.startswith(DIAGNOSTICS):
            values = [value for _, value in points]
            diagnostics[name] = sum(values) / len(values) if name.startswith(AVERAGED) else values[-1]
    return curves, diagnostics


class RunResult(StrictModel):
    """One arm on one task with one seed."""

    arm: str
    task: str
    seed: int
    status: RunStatus
    id: str | None = Field(default=None, description="The job's id, or the hash of the run's specification")
    error: str | None = None
    outcomes: dict[ModeLabel, ModeOutcomes] | None = None
    curves: dict[str, list[Point]] = Field(default_factory=dict)
    diagnostics: dict[str, float] = Field(default_factory=dict)
    samples_generated: float = 0.0
    tokens_generated: float = 0.0
    tokens_trained: float = 0.0
    seconds: float = 0.0


class Plan(StrictModel):
    """What is compared with what, stated before the results."""

    arms: list[str] = Field(description="Names of everything that is compared")
    tasks: list[str] = Field(description="Names of what is trained on")
    seeds: list[int] = Field(description="Each arm runs on each task once with each of these")
    metric: str = Field(default="accuracy", description="accuracy, reward, pass@K or distinct_right@K")
    mode: ScoredMode = Field(
        default="N", description="Whose answers count: N normal, H high-entropy, mix half of each"
    )
    dev_items: int = Field(
        ge=0,
        description="Number of evaluated items for choosing settings, from the first; claims do not use them",
    )
    method: str = Field(description="The arm that the claim is about")
    baselines: list[str] = Field(description="Arms that the method is claimed to beat, every one")
    against: str | None = Field(
        default=None,
        description="The single arm to compare the method with, instead of all baselines",
    )
    controls: dict[str, str] = Field(
        default_factory=dict, description="Control arms of the synergy rule, by ablation"
    )
    exploratory: list[str] = Field(
        default_factory=list, description="Arms that are shown with the others, but part of no claim"
    )
    analyses: int = Field(
        default=1,
        ge=1,
        description="Maximum number of verdicts as seeds are added; they share the error rate",
    )
    seeds_before: list[int] = Field(
        default=[],
        description="Number of seeds each time some were added after results were visible",
    )

    @property
    def judged_seeds(self) -> list[int]:
        """The seeds of the last analysis that was planned; those that came later decide nothing."""
        if len(self.seeds_before) < self.analyses:
            return self.seeds
        return self.seeds[: self.seeds_before[self.analyses - 1]]

    @field_validator("metric")
    @classmethod
    def _metric_exists(cls, value: str) -> str:
        metric_k(value)
        return value


Analysis = dict[str, Any]
