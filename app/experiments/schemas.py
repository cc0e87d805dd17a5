"""What an experiment's creation and extension accept."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from app.core.parameters import Metadata
from app.jobs.methods import Hours
from trainer.ablations import ablation_names
from trainer.graders.spec import StrictModel
from trainer.spec.algorithm import AlgorithmSpec
from trainer.spec.data import EnvironmentData
from trainer.statistics.item_scores import metric_k
from trainer.statistics.outcomes import ScoredMode

MAX_RUNS = 10_000
#: Jobs that are checked before an experiment is taken in: an arm on a task each.
MAX_CHECKS = 500
#: Types of algorithms, as an arm may be called.
ALGORITHMS = tuple(one.model_fields["type"].default for one in get_args(get_args(AlgorithmSpec)[0]))

Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._@%+-]+$")]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Seeds = Annotated[list[Seed], Field(min_length=1, max_length=1000)]
Items = Annotated[int, Field(strict=True, ge=1, le=100_000)]


class Arm(StrictModel):
    """One way to train. A plain string is the ablation of that name, or else the algorithm of that type."""

    name: Name = Field(description="Default: the ablation's name or the algorithm's type")
    ablation: str | None = Field(default=None, description="A preset, such as grpo_2x or freeze_loss@50%")
    algorithm: dict[str, object] | None = Field(default=None, description="Replaces the base's algorithm")
    reinforcement: dict[str, object] = Field(
        default_factory=dict,
        description="Settings merged over the base's method.reinforcement, after the preset",
    )
    exploratory: bool = Field(default=False, description="Shown with the others, but part of no claim")

    @model_validator(mode="before")
    @classmethod
    def _from_a_word(cls, value: object) -> Any:
        if isinstance(value, str):
            if value.partition("@")[0] in ablation_names():
                value = {"ablation": value}
            elif value in ALGORITHMS:
                value = {"algorithm": {"type": value}}
            else:
                known = ", ".join(sorted({*ablation_names(), *ALGORITHMS}))
                raise ValueError(
                    f"{value!r} is not an arm; known ones: {known}; or give an object with a name"
                )
        if isinstance(value, dict) and "name" not in value:
            algorithm = value.get("algorithm")
            named = algorithm.get("type") if isinstance(algorithm, dict) else None
            found = value.get("ablation") or named
            if isinstance(found, str):
                return {"name": found} | value
        return value

    @model_validator(mode="after")
    def _one_way(self) -> "Arm":
        if self.ablation is not None and self.algorithm is not None:
            raise ValueError(f"arm {self.name!r} has both an ablation and an algorithm: give one of them")
        return self


class _AWordDoes:
    """Says in a schema that a bare word stands for an arm, too."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        word = {"type": "string", "description": "An ablation, such as grpo_2x, or an algorithm's type"}
        return {"anyOf": [word, handler(schema)]}


ArmOrWord = Annotated[Arm, _AWordDoes()]


class Task(StrictModel):
    """What to train on. Without validation data, an environment is validated on further items of its own."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
                for name in ("environment", "validation_environment", "validation_file")
            ]
        }
    )
    name: Name = Field(description="Its name in runs and reports; letters, digits and ._@%+-")
    model: str | None = Field(default=None, description="Default: the experiment's")
    training_file: str | None = Field(
        default=None, description="Id of an uploaded file with the prompts; either this or environment"
    )
    environment: EnvironmentData | None = Field(
        default=None, description="A reasoning-gym task that generates items; either this or training_file"
    )
    validation_file: str | None = Field(
        default=None,
        description="Id of a file with the items to compare arms on; default with environment: further "
        "items of it",
    )
    validation_environment: EnvironmentData | None = Field(
        default=None,
        description="A task that generates the items to compare arms on, instead of validation_file",
    )
    reinforcement: dict[str, object] = Field(
        default_factory=dict, description="Settings merged over the base's, such as the grader"
    )


class Split(StrictModel):
    """The first ``dev`` validation items are for choosing settings, the next ``test`` for comparing."""

    dev: Items = Field(
        default=16,
        description="Number of items for choosing settings, from the first; claims do not use them",
    )
    test: Items = Field(default=64, description="Number of items after those, used for claims")


class Compare(StrictModel):
    """The planned comparison, stated in advance."""

    method: Name | None = Field(default=None, description="Default: policy_split, otherwise the first arm")
    baselines: list[Name] | None = Field(
        default=None,
        description="Arms that the method is claimed to beat, every one. Default: all others that are not "
        "exploratory",
    )
    against: Name | None = Field(
        default=None,
        description="The single arm to compare with instead of all baselines, which takes fewer seeds to "
        "decide. Default: the baseline, if there is only one",
    )
    analyses: Annotated[int, Field(strict=True, ge=1, le=10)] = Field(
        default=1,
        description="Maximum number of verdicts: one, and another each time seeds are added after results "
        "are visible. They share the error rate of the report, so each is stricter. Seeds "
        "beyond the last analysis are shown but do not count",
    )


class ExperimentBudget(StrictModel):
    """The budget of every run, and a limit on all of them together."""

    steps: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] = Field(
        description="Training steps of each run"
    )
    run_hours: Hours | None = Field(
        default=None, description="No further run starts once all runs together have taken this long"
    )


class CreateExperiment(StrictModel):
    """The body of ``POST /v1/experiments``."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(
        description="Its name; 1 to 256 characters"
    )
    model: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(
        description="The model all runs start from, base or fine-tuned"
    )
    reinforcement: dict[str, object] = Field(
        default_factory=dict, description="Settings of a job's method that all runs share"
    )
    arms: Annotated[list[ArmOrWord], Field(min_length=2, max_length=100)] = Field(
        description="What to compare: 2 to 100 ways to train, each the name of an ablation or algorithm, "
        "or an object"
    )
    tasks: Annotated[list[Task], Field(min_length=1, max_length=100)] = Field(
        description="What to train on: 1 to 100 tasks; every arm runs on every task"
    )
    seeds: Seeds = Field(
        description="One run per arm, task and seed; 1 to 1,000 different seeds. A verdict needs about five"
    )
    split: Split = Field(
        default_factory=Split,
        description="Which validation items are for choosing settings, and which for comparing",
    )
    metric: str = Field(default="accuracy", description="accuracy, reward, pass@K or distinct_right@K")
    mode: ScoredMode = Field(default="N", description="Whose answers count: N, H, or mix for half of each")
    compare: Compare = Field(
        default_factory=Compare,
        description="What is compared; default: policy_split, otherwise the first arm, with all others",
    )
    budget: ExperimentBudget = Field(description="Limits for each run, and for all of them together")
    max_parallel: Annotated[int, Field(strict=True, ge=1, le=10_000)] | None = Field(
        default=None, description="Maximum of its jobs queued or running at a time; default: unlimited"
    )
    metadata: Metadata | None = Field(
        default=None,
        description="Up to 13 key-value pairs for your own records; each job has them besides those of "
        "experiment, arm and task",
    )

    @property
    def method(self) -> str:
        """The arm that is compared with the others."""
        return _method_of(self.compare, [arm.name for arm in self.arms])

    @field_validator("arms", "tasks")
    @classmethod
    def _one_name_each(cls, value: list[Arm] | list[Task], info: ValidationInfo) -> list[Arm] | list[Task]:
        _each_once(info.field_name, [one.name for one in value])
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds_fit(cls, value: list[int], info: ValidationInfo) -> list[int]:
        _each_once(info.field_name, value)
        kinds = len(info.data.get("arms", ())) * len(info.data.get("tasks", ()))
        if kinds > MAX_CHECKS:
            raise ValueError(f"arms and tasks make {kinds} distinct jobs, more than {MAX_CHECKS}")
        if (runs := kinds * len(value)) > MAX_RUNS:
            raise ValueError(f"arms, tasks and seeds make {runs} runs, more than {MAX_RUNS}")
        return value

    @field_validator("metric")
    @classmethod
    def _metric_exists(cls, value: str) -> str:
        metric_k(value)
        return value

    @field_validator("compare")
    @classmethod
    def _arms_are_there(cls, value: Compare, info: ValidationInfo) -> Compare:
        arms = [arm.name for arm in info.data.get("arms", ())]
        others = [one for one in (value.against, *(value.baselines or [])) if one is not None]
        if not arms:  # which is said of them
            return value
        for wanted in (value.method, *others):
            if wanted is not None and wanted not in arms:
                raise ValueError(f"compare names the arm {wanted!r}, but there are: {', '.join(arms)}")
        if (method := _method_of(value, arms)) in others:
            raise ValueError(
                f"compare has {method!r} both as the method and among those it is compared with: give it once"
            )
        return value


def _each_once(kind: str | None, names: Sequence[object]) -> None:
    if twice := [one for one in names if names.count(one) > 1]:
        raise ValueError(f"{kind} has {str(twice[0])!r} twice: give each a different name")


def _method_of(compare: Compare, arms: Sequence[str]) -> str:
    return compare.method or ("policy_split" if "policy_split" in arms else arms[0])


class Definition(CreateExperiment):
    """What is stored of an experiment: its request with what was added to it."""

    seeds_before: list[int] = Field(
        default_factory=list,
        description="Number of seeds at each time when some were added after results were visible",
    )


class ExtendExperiment(StrictModel):
    """The body of ``POST /v1/experiments/{id}/extend``. What the experiment already has is ignored.

    Seeds that are added after a result could be seen take one of the experiment's ``compare.analyses``.
    """

    seeds: Annotated[list[Seed], Field(max_length=1000)] = Field(
        default_factory=list, description="Seeds to add; existing ones are ignored"
    )
    arms: Annotated[list[ArmOrWord], Field(max_length=100)] = Field(
        default_factory=list, description="Arms to add, as on creation"
    )


ReportFormat = Literal["json", "csv", "html"]
