"""Before training: does the grader work on what the model says now, and does it tell responses apart?

A few prompts are answered and graded, in rounds, until the rewards of some prompt differ; the usual run sees
that in the first round. When nothing differs, or nothing could be graded, after all the rounds that the spec
allows, the run ends before it has cost a training step, with the numbers that say why. Draws of its own:
the training's randomness is not touched.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from trainer.data.items import Item, ItemOrder
from trainer.errors import GraderFailed, TrainerError, ZeroVariance
from trainer.graders.grade import Grade
from trainer.objective.advantage import has_variance
from trainer.spec.run import PreflightSpec
from trainer.steps.context import StepContext
from trainer.steps.generation import build_group, count_errors, grade_groups, sample_groups
from trainer.types import Group

ROUND_RESPONSES = 16
EXAMPLES = 3
EXAMPLE_CHARACTERS = 300


@dataclass
class Findings:
    """What was seen."""

    groups: list[Group] = field(default_factory=list)
    errors: list[Grade] = field(default_factory=list)

    @property
    def rewards(self) -> list[float]:
        return [r.reward for group in self.groups for r in group.rollouts if r.reward is not None]

    @property
    def without_rewards(self) -> str:
        """What else there was than grades."""
        missed = sum(r.parse_error is not None for group in self.groups for r in group.rollouts)
        form = f", {missed} responses not matching response_format" if missed else ""
        return f"{len(self.errors)} errors{form}"

    @property
    def responses(self) -> int:
        return sum(len(group.rollouts) for group in self.groups)

    @property
    def differing(self) -> int:
        """Prompts whose rewards differ."""
        return sum(has_variance(group.rewards_G) for group in self.groups)

    def numbers(self) -> dict[str, object]:
        """For the event's data."""
        rewards = self.rewards
        return {
            "prompts": len(self.groups),
            "responses": self.responses,
            "graded": len(rewards),
            "errors": dict(Counter(error.kind for error in self.errors)),
            "parse_errors": sum(r.parse_error is not None for group in self.groups for r in group.rollouts),
            "prompts_with_variance": self.differing,
            "reward_mean": sum(rewards) / len(rewards) if rewards else None,
            "reward_min": min(rewards, default=None),
            "reward_max": max(rewards, default=None),
            "examples": self._examples(),
        }

    def _examples(self) -> list[dict[str, object]]:
        return [
            {
                "prompt": str(group.messages[-1]["content"])[:EXAMPLE_CHARACTERS],
                "response": group.rollouts[0].text[:EXAMPLE_CHARACTERS],
                "reward": group.rollouts[0].reward,
            }
            for group in self.groups[:EXAMPLES]
        ]


def preflight(context: StepContext, items: Sequence[Item], spec: PreflightSpec) -> None:
    """Sample and grade a little, and say what came of it, with the numbers.

    Raises GraderFailed when nothing could be graded, ZeroVariance when no rewards differ and the spec says
    that this is to fail.
    """
    found = _sample_and_grade(context, items, spec)
    data: dict[str, object] = {"preflight": found.numbers()}
    try:
        level, text = _judge(found, spec)
    except TrainerError:
        context.progress.say(
            "The grader was checked before training; the data has the results.", "warn", data
        )
        raise
    context.progress.say(text, level, data)


def _sample_and_grade(context: StepContext, items: Sequence[Item], spec: PreflightSpec) -> Findings:
    """Until rewards differ, or ``spec.samples`` responses have been seen."""
    found, order = Findings(), ItemOrder(len(items), context.seed)
    per_prompt = sum(context.samples.values())
    while not found.differing and found.responses < spec.samples:
        wanted = min(ROUND_RESPONSES, spec.samples - found.responses)
        first = len(found.groups)
        indices = order.take(first, math.ceil(wanted / per_prompt))
        groups = [
            build_group(context.policy, items[index], number, items[index].index, None)
            for number, index in enumerate(indices, first)
        ]
        sample_groups(context, groups, context.samples, "preflight")
        found.errors += grade_groups(context, groups, all_may_fail=True)
        found.groups += groups
    return found


def _judge(found: Findings, spec: PreflightSpec) -> tuple[Literal["info", "warn"], str]:
    """The level and the sentence to tell. Raises GraderFailed or ZeroVariance where training is no use."""
    rewards = found.rewards
    if not rewards:
        raise GraderFailed(
            f"before training, the grader failed on all {count_errors(found.errors)}", "grader"
        )
    seen = f"{found.responses} responses to {len(found.groups)} prompts"
    if not found.differing:
        counts = Counter(f"{reward:.3g}" for reward in rewards)
        values = ", ".join(f"{value} for {count}" for value, count in counts.most_common(3))
        text = (
            f"before training, the rewards of {seen} were the same within every prompt (reward {values}; "
            f"{found.without_rewards}), so there is nothing to learn. One answer was {_shortened(found)!r}"
        )
        if spec.on_zero_variance == "fail":
            raise ZeroVariance(
                f"{text}. Check the grader and the prompts; if rewards are known to be this rare or this "
                "common, increase preflight.samples or set preflight.on_zero_variance to 'warn'",
                "grader",
            )
        return "warn", f"{text}."
    mean = sum(rewards) / len(rewards)
    text = f"Before training: {seen}, mean reward {mean:.3f}, differing for {found.differing} prompts"
    if found.errors:
        return "warn", f"{text}; the grader failed on {count_errors(found.errors)}"
    return "info", f"{text}."


def _shortened(found: Findings) -> str:
    return found.groups[0].rollouts[0].text[:80]
