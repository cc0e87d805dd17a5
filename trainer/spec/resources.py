"""What a run computes on: how many GPUs, on how many hosts, and what starts its processes. Torch-free.

On a host without GPUs, the slots of its worker stand in for them: a run of four GPUs is then four processes
that compute on the CPU.
"""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from trainer.graders.spec import StrictModel

Launcher = Literal["local", "torchrun", "ray"]
MOST_GPUS = 4096


class Resources(StrictModel):
    """How many GPUs a run has, and how it uses them."""

    gpus: Annotated[int, Field(strict=True, ge=1, le=MOST_GPUS)] = Field(
        default=1, description="GPUs of the whole run, or slots of a worker if workers have no GPUs"
    )
    nodes: Annotated[int, Field(strict=True, ge=1, le=MOST_GPUS)] = Field(
        default=1, description="Number of hosts, each with the same number of GPUs"
    )
    rollout_gpus: Annotated[int, Field(strict=True, ge=0, lt=MOST_GPUS)] = Field(
        default=0,
        description="How many of gpus only sample, with vLLM; the others train. 0: all do both",
    )
    tensor_parallel: Annotated[int, Field(strict=True, ge=1, le=MOST_GPUS)] = Field(
        default=1, description="GPUs over which each vLLM engine divides the model's weights"
    )
    min_gpus: Annotated[int, Field(strict=True, ge=1, le=MOST_GPUS)] | None = Field(
        default=None,
        description="Minimum with which the run may resume from its last state if, after a loss, fewer "
        "than gpus are left; default: it waits for gpus",
    )
    launcher: Literal["auto", "local", "torchrun", "ray"] = Field(
        default="auto",
        description="What starts the processes. local: a single one; torchrun: one for each GPU, on the "
        "worker's host; ray: one for each GPU that a Ray cluster places. auto: the first that suffices",
    )

    @field_validator("nodes")
    @classmethod
    def _divides(cls, nodes: int, info: ValidationInfo) -> int:
        gpus = info.data.get("gpus", nodes)
        if gpus % nodes:
            raise ValueError(
                f"nodes is {nodes}, but gpus is {gpus}: give a divisor, because each host has the same number"
            )
        return nodes

    @field_validator("rollout_gpus")
    @classmethod
    def _leaves_some(cls, sampling: int, info: ValidationInfo) -> int:
        gpus = info.data.get("gpus", MOST_GPUS)
        if sampling >= gpus:
            raise ValueError(
                f"rollout_gpus is {sampling}, but gpus is {gpus}, of which at least one must train: give "
                f"at most {gpus - 1}, or more gpus"
            )
        _check_one_host("rollout_gpus", sampling, 0, info)
        return sampling

    @field_validator("tensor_parallel")
    @classmethod
    def _divides_those_that_sample(cls, degree: int, info: ValidationInfo) -> int:
        name = "rollout_gpus" if info.data.get("rollout_gpus") else "gpus"
        if (count := info.data.get(name, degree)) % degree:
            raise ValueError(f"tensor_parallel is {degree}, but {name} is {count}: give a divisor of {count}")
        _check_one_host("tensor_parallel", degree, 1, info)
        return degree

    @field_validator("min_gpus")
    @classmethod
    def _is_enough(cls, least: int | None, info: ValidationInfo) -> int | None:
        lowest, gpus = info.data.get("rollout_gpus", 0) + 1, info.data.get("gpus", MOST_GPUS)
        if least is not None and not lowest <= least <= gpus:
            raise ValueError(
                f"min_gpus is {least}, but gpus is {gpus}: give a number from {lowest} to {gpus}"
            )
        return least

    @field_validator("launcher")
    @classmethod
    def _can_start_them(cls, launcher: str, info: ValidationInfo) -> str:
        gpus, nodes = info.data.get("gpus", 1), info.data.get("nodes", 1)
        ranks = gpus - info.data.get("rollout_gpus", 0)
        if launcher in ("local", "torchrun") and nodes > 1:
            raise ValueError(
                f"launcher is {launcher!r}, which starts processes on one host, but nodes is {nodes}: give "
                "'ray' or 'auto'"
            )
        if launcher == "local" and ranks > 1:
            raise ValueError(
                f"launcher is 'local', which starts one process, but {ranks} GPUs train: give 'torchrun', "
                "'ray' or 'auto'"
            )
        return launcher

    @property
    def ranks(self) -> int:
        """How many processes train."""
        return self.gpus - self.rollout_gpus

    @property
    def started_by(self) -> Launcher:
        """The launcher, with ``auto`` resolved."""
        if self.launcher != "auto":
            return self.launcher
        if self.nodes > 1:
            return "ray"
        return "torchrun" if self.ranks > 1 else "local"

    def as_started(self) -> "Resources":
        """The same with its launcher resolved."""
        return self.model_copy(update={"launcher": self.started_by})

    @property
    def of_a_worker(self) -> int:
        """How many GPUs, or slots, its worker must have for it; those of a Ray cluster do not count."""
        return 1 if self.started_by == "ray" else self.gpus

    @property
    def least_of_a_worker(self) -> int:
        """How many it starts with; 0 if its GPUs are a Ray cluster's, which distinguishes it from the
        others."""
        return 0 if self.started_by == "ray" else self.gpus


def _check_one_host(name: str, value: int, default: int, info: ValidationInfo) -> None:
    nodes = info.data.get("nodes", 1)
    if nodes > 1 and value != default:
        raise ValueError(
            f"{name} is {value}, but nodes is {nodes}: engines of several GPUs, or on GPUs of their own, "
            f"run only on the first rank's host: give nodes 1, or {name} {default}"
        )


DEFAULT_RESOURCES = Resources()
