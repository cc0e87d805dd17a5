"""The ablations of Policy Split: one JSON file each, a few settings laid over the run that is compared.

``load_ablation("no_share", total_steps=200).run_spec(mine)`` is my run without sharing;
``.reinforcement({...})`` does the same to the ``method.reinforcement`` of an API request. An ablation has no
code of its own: a file holds

- ``reinforcement``: the settings, in the words of an API request. Blocks are laid over the run's blocks key
  by key, so everything else (eta, rollouts, learning rate) stays that of the compared run. An algorithm of
  another type takes over what both have (clip, aggregation, reference-KL), so that an arm differs in the
  method alone;
- ``freeze_at``: the share of the steps after which the freeze begins. ``freeze_loss@25%`` chooses another
  share, ``freeze_loss@120`` a step;
- ``eta_normal_in_eta``: the normal mode's bonus as a multiple of the run's eta, "the same bonus" whatever
  eta is (+-0.03 at the default).

Why ``grpo_2x``: Policy Split trains each response under two prompts, two rows for one rollout. GRPO with
``updates_per_batch: 2`` trains each rollout twice as well, so a gain over it is not the gain of more compute
on the same samples. Its second update is off-policy, inside the clip.

A synergy of two modes is claimed only where policy_split beats grpo_2x, single_entropy and prompt_only, and
freeze_loss@50% falls behind policy_split; otherwise the simpler explanation is the one to report.

Torch-free.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from trainer.errors import InvalidSpec
from trainer.graders.spec import StrictModel
from trainer.spec.algorithm import AlgorithmSpec, PolicySplit
from trainer.spec.run import RunSpec

_FOLDER = Path(__file__).parent
_ALGORITHM: TypeAdapter[AlgorithmSpec] = TypeAdapter(AlgorithmSpec)


class AblationFile(StrictModel):
    """What an ablation's file holds."""

    description: str = Field(min_length=1)
    reinforcement: dict[str, Any]
    freeze_at: float | None = Field(default=None, ge=0, le=1)
    eta_normal_in_eta: float | None = None


@dataclass(frozen=True)
class Ablation:
    """Settings to lay over a run. ``overrides`` are in the words of an API request."""

    name: str
    description: str
    overrides: Mapping[str, Any]
    eta_normal_in_eta: float | None = None

    def reinforcement(self, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """``base``, a request's ``method.reinforcement`` (default: nothing set), with the ablation in it.

        Raises InvalidSpec where the two do not fit together.
        """
        merged = copy.deepcopy(dict(base or {}))
        for key, value in self.overrides.items():
            block = merged.get(key)
            merged[key] = {**block, **value} if isinstance(block, dict) else copy.deepcopy(value)
        if "steps" in merged.get("budget", {}):
            (merged.get("hyperparameters") or {}).pop("n_epochs", None)
        merged["algorithm"] = self._algorithm((base or {}).get("algorithm") or {"type": "policy_split"})
        return merged

    def run_spec(self, base: RunSpec) -> RunSpec:
        """``base`` with the ablation in it. Raises InvalidSpec where the two do not fit together."""
        merged = self.reinforcement(base.model_dump(mode="json"))
        merged["total_steps"] = merged.pop("budget", {}).get("steps", base.total_steps)
        try:
            return RunSpec.model_validate(merged)
        except ValidationError as error:
            raise InvalidSpec(self._misfit(error), "ablation") from None

    def _algorithm(self, base: Mapping[str, object]) -> dict[str, object]:
        overrides = self.overrides["algorithm"]
        try:
            if overrides["type"] != base.get("type"):
                theirs, ours = _ALGORITHM.validate_python(base), _ALGORITHM.validate_python(overrides)
                shared = type(theirs).model_fields.keys() & type(ours).model_fields.keys()
                base = theirs.model_dump(mode="json", include=shared)
            merged = {**base, **overrides}
            whole = _ALGORITHM.validate_python(merged)
        except ValidationError as error:
            raise InvalidSpec(self._misfit(error), "ablation") from None
        if self.eta_normal_in_eta is not None:
            assert isinstance(whole, PolicySplit)
            merged["eta_normal"] = self.eta_normal_in_eta * whole.eta
        return merged

    def _misfit(self, error: ValidationError) -> str:
        said = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        return f"ablation {self.name} does not suit the run: {said}"


def ablation_names() -> list[str]:
    """The ablations that there are, without parameters."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def load_ablation(name: str, total_steps: int) -> Ablation:
    """The ablation ``name``, for runs of ``total_steps`` steps.

    A name may end in the moment of the freeze: ``freeze_loss@50%`` or ``freeze_loss@120``. Raises
    InvalidSpec for a name or a moment that there is not.
    """
    stem, at, moment = name.partition("@")
    if stem not in ablation_names():
        known = ", ".join(ablation_names())
        raise InvalidSpec(f"there is no ablation {stem!r}; there are: {known}", "ablation")
    file = AblationFile.model_validate(json.loads((_FOLDER / f"{stem}.json").read_text("utf-8")))
    overrides = file.reinforcement
    if file.freeze_at is not None:
        step = _freeze_step(name, moment, total_steps) if at else round(file.freeze_at * total_steps)
        overrides = {**overrides, "algorithm": {**overrides["algorithm"], "freeze_step": step}}
    elif at:
        raise InvalidSpec(
            f"{name!r}: ablation {stem} has no freeze, so its time cannot be chosen", "ablation"
        )
    return Ablation(name, file.description, overrides, file.eta_normal_in_eta)


def _freeze_step(name: str, moment: str, total_steps: int) -> int:
    number = moment.removesuffix("%")
    if number.isdecimal():
        step = round(int(number) / 100 * total_steps) if moment.endswith("%") else int(number)
        if step <= total_steps:
            return step
    raise InvalidSpec(
        f"{name!r}: give the freeze as a share from 0% to 100%, or as a step from 0 to {total_steps}",
        "ablation",
    )
