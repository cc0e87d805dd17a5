"""The fixed probe set: the same prompts and the same draws at every probe, answered by the policy as it is.

Probes see the parameters before the step's update. Their randomness comes from seeds of their own and their
gradients go to buffers of their own, so a run with probes ends with the weights of a run without.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from trainer.algorithms.base import Algorithm
from trainer.data.items import Item
from trainer.diagnostics.gradients import gradient_metrics
from trainer.diagnostics.hidden_states import hidden_state_metrics
from trainer.distributed.ranks import ALONE
from trainer.model.policy import Policy
from trainer.seeds import generator
from trainer.spec.modes import Mode
from trainer.spec.run import RunSpec
from trainer.steps.context import StepContext
from trainer.steps.generation import build_group, grade_groups, sample_groups
from trainer.types import Group


class ProbeSet:
    """Prompts drawn once from ``items``, and the probes that ``spec.diagnostics`` chooses.

    Every probe compares the modes, so an algorithm
    that samples one alone has none.
    """

    def __init__(self, spec: RunSpec, policy: Policy, algorithm: Algorithm, items: Sequence[Item]):
        self._which = spec.diagnostics.which
        self._interval = spec.diagnostics.interval if self._which else 0
        samples = algorithm.samples(0, spec.rollout.samples_per_prompt)
        if not all(samples.get(mode) for mode in Mode):
            self._interval = 0
        self._groups: list[Group] = []
        if self._interval:
            order = torch.randperm(len(items), generator=generator(spec.seed, "probe items")).tolist()
            self._groups = [
                build_group(policy, items[place], number, items[place].index, None)
                for number, place in enumerate(order[: spec.diagnostics.probe_items])
            ]

    def due(self, step: int) -> bool:
        """Whether to probe before step ``step`` (from 0)."""
        return self._interval > 0 and step % self._interval == 0

    def run(self, context: StepContext) -> dict[str, float]:
        """Answer the prompts and probe; ``time/diagnostics/*`` in the result says what each part took.

        All ranks answer, the first one probes; of a sharded model all do the same, each with its part of
        the gradients. Collective.
        """
        values: dict[str, float] = {}
        groups = [replace(group, rollouts=[]) for group in self._groups]
        started = time.perf_counter()
        same_draws = replace(context, step=0)
        sample_groups(same_draws, groups, same_draws.samples, "probe")
        context.engine.rest()  # the probes take its memory, on a GPU that it shares with them
        _lap(values, "sample", started)
        if context.policy.sharding is None:
            alone = replace(context, ranks=ALONE)
            return context.ranks.from_first(lambda: self._probe(alone, groups, values))
        values = self._probe(context, groups, values)
        return context.ranks.from_first(lambda: values)

    def _probe(self, context: StepContext, groups: list[Group], values: dict[str, float]) -> dict[str, float]:
        started = time.perf_counter()
        if "hidden_states" in self._which:
            values |= hidden_state_metrics(context.policy, groups, context.positions)
            started = _lap(values, "hidden_states", started)
            context.progress.beat()
        if "gradients" not in self._which:
            return values
        errors = grade_groups(context, groups, all_may_fail=True)
        values |= gradient_metrics(
            context.policy,
            context.algorithm,
            groups,
            step=context.step,
            temperature=context.rollout.temperature,
            generator=context.generator("probe labels"),
            positions=context.positions,
            ranks=context.ranks,
        )
        _lap(values, "gradients", started)
        context.progress.beat()
        if errors:
            context.progress.say(
                f"step {context.step + 1}: the grader failed on responses of the probe set; "
                f"first: {errors[0].error}",
                level="warn",
            )
        return values


def _lap(values: dict[str, float], name: str, started: float) -> float:
    now = time.perf_counter()
    values[f"time/diagnostics/{name}"] = now - started
    return now
