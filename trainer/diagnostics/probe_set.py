"""The fixed probe set: the same prompts and the same draws at every probe, answered by the policy as it is.

Probes see the parameters before the step's update. Their randomness comes from seeds of their own and their
gradients go to buffers of their own, so a run with probes ends with the weights of a run without.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from trainer.algorithms.base import Algorithm
from trainer.data.items import Item
from trainer.diagnostics.gradients import gradient_metrics
from trainer.diagnostics.hidden_states import hidden_state_metrics
from trainer.generation import build_group, grade_groups, sample_groups
from trainer.graders.grade import Grader
from trainer.modes import Mode
from trainer.policy import Policy
from trainer.ranks import ALONE, Ranks
from trainer.rollout.engine import RolloutEngine
from trainer.seeds import generator
from trainer.spec import RunSpec
from trainer.types import Group


@dataclass(frozen=True)
class ProbeResult:
    """Metrics by name, and what went wrong with the grader, if anything."""

    values: dict[str, float]
    grader_error: str | None = None


class ProbeSet:
    """Prompts drawn once from ``items``, and the probes that ``spec.diagnostics`` chooses.

    Building it raises InvalidSpec when a prompt is too long. Every probe compares the modes, so an algorithm
    that samples one alone has none.
    """

    def __init__(self, spec: RunSpec, policy: Policy, algorithm: Algorithm, items: Sequence[Item]):
        self._spec, self._policy, self._algorithm = spec, policy, algorithm
        self._interval = spec.diagnostics.interval if spec.diagnostics.which else 0
        self._samples = algorithm.samples(0, spec.rollout.samples_per_prompt)
        if not all(self._samples.get(mode) for mode in Mode):
            self._interval = 0
        self._groups: list[Group] = []
        if self._interval:
            order = torch.randperm(len(items), generator=generator(spec.seed, "probe items")).tolist()
            self._groups = [
                build_group(policy, items[item], number, item, spec.rollout.max_prompt_tokens)
                for number, item in enumerate(order[: spec.diagnostics.probe_items])
            ]

    def due(self, step: int) -> bool:
        """Whether to probe before step ``step`` (from 0)."""
        return self._interval > 0 and step % self._interval == 0

    def run(
        self,
        step: int,
        engine: RolloutEngine,
        grader: Grader,
        on_progress: Callable[[], None],
        ranks: Ranks = ALONE,
    ) -> ProbeResult:
        """Answer the prompts and probe; ``time/diagnostics/*`` in the result says what each part took.

        All of ``ranks`` answer, the first one probes; joint.
        """
        values: dict[str, float] = {}
        rollout = self._spec.rollout
        groups = [replace(group, rollouts=[]) for group in self._groups]
        started = time.perf_counter()
        sample_groups(
            engine,
            groups,
            self._samples,
            seed=(self._spec.seed, "probe", 0),
            max_tokens=rollout.max_response_tokens,
            temperature=rollout.temperature,
            on_progress=on_progress,
        )
        _lap(values, "sample", started)
        return ranks.from_first(lambda: self._look(step, groups, values, grader, on_progress))

    def _look(
        self,
        step: int,
        groups: list[Group],
        values: dict[str, float],
        grader: Grader,
        on_progress: Callable[[], None],
    ) -> ProbeResult:
        rollout, which = self._spec.rollout, self._spec.diagnostics.which
        started = time.perf_counter()
        if "hidden_states" in which:
            values |= hidden_state_metrics(self._policy, groups)
            started = _lap(values, "hidden_states", started)
            on_progress()
        if "gradients" not in which:
            return ProbeResult(values)
        errors = grade_groups(self._policy, groups, grader, all_may_fail=True, on_progress=on_progress)
        values |= gradient_metrics(
            self._policy,
            self._algorithm,
            groups,
            step=step,
            temperature=rollout.temperature,
            generator=generator(self._spec.seed, "probe labels", step),
        )
        _lap(values, "gradients", started)
        on_progress()
        return ProbeResult(values, errors[0].error if errors else None)


def _lap(values: dict[str, float], name: str, started: float) -> float:
    now = time.perf_counter()
    values[f"time/diagnostics/{name}"] = now - started
    return now
