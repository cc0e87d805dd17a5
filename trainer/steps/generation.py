"""First two phases of a step: sample every prompt in its modes, then grade the responses."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from trainer.data.items import Item
from trainer.errors import GraderFailed, InvalidSpec
from trainer.graders.grade import Grade
from trainer.model.policy import Policy
from trainer.objective.metrics import MetricSums
from trainer.rollout.engine import SampleRequest
from trainer.seeds import derive_seed
from trainer.spec.modes import Mode
from trainer.steps.context import StepContext
from trainer.steps.thoughts import take_apart
from trainer.types import Group, Rollout


def build_group(
    policy: Policy, item: Item, index: int, item_index: int, max_prompt_tokens: int | None
) -> Group:
    """A prompt with its token ids in both modes. Raises InvalidSpec when it is too long, None: never."""
    prompt_ids = {mode: policy.prompt_ids(item.messages, mode, item.tools) for mode in Mode}
    longest = max(map(len, prompt_ids.values()))
    if max_prompt_tokens is not None and longest > max_prompt_tokens:
        raise InvalidSpec(
            f"the prompt of item {item_index} has {longest} tokens; the limit is {max_prompt_tokens}",
            "rollout.max_prompt_tokens",
        )
    return Group(index, item_index, item.fields, item.messages, prompt_ids, tools=item.tools)


def sample_groups(
    context: StepContext,
    groups: Sequence[Group],
    samples: Mapping[Mode, int],
    purpose: str,
    *,
    temperature: float | None = None,
    top_p: float = 1.0,
    top_k: int | None = None,
) -> None:
    """Sample ``samples[mode]`` responses of every group, all modes in one batch, into ``group.rollouts``.

    What is drawn depends on the run's seed, on ``purpose``, and on the step. Evaluation has a ``temperature``
    of its own, and ``top_p`` and ``top_k``; the other purposes sample as the run does.
    """
    requests, owners = [], []
    for group in groups:
        number = 0
        for mode, count in samples.items():
            for _ in range(count):
                one_seed = derive_seed(context.seed, purpose, context.step, group.index, number)
                requests.append(SampleRequest(tuple(group.prompt_ids[mode]), one_seed))
                owners.append((group, mode))
                number += 1
    context.engine.wake()
    drawn = context.engine.generate(
        requests,
        max_tokens=context.rollout.max_response_tokens,
        temperature=context.rollout.temperature if temperature is None else temperature,
        top_p=top_p,
        top_k=top_k,
        form=context.forced_form,
        on_progress=context.progress.beat,
    )
    for (group, mode), sample in zip(owners, drawn, strict=True):
        group.rollouts.append(Rollout(mode, sample.response_ids, sample.logprobs, sample.truncated))


def grade_groups(context: StepContext, groups: Sequence[Group], *, all_may_fail: bool = False) -> list[Grade]:
    """Decode every response and grade them all at once; returns the grades that are errors.

    The first rank grades, and all learn the rewards; collective. Raises GraderFailed when not one response
    could be graded, unless ``all_may_fail``; and when one is graded on another scale than rewards have.
    """
    rollouts = [(group, rollout) for group in groups for rollout in group.rollouts]
    for _, rollout in rollouts:
        rollout.text = context.policy.response_text(rollout.response_ids)
    samples = [take_apart(context.policy, group, rollout) for group, rollout in rollouts]
    grades = context.ranks.from_first(lambda: context.grader.grade_many(samples, context.progress.beat))
    for (_, rollout), grade in zip(rollouts, grades, strict=True):
        rollout.reward, rollout.scores, rollout.answer = grade.reward, grade.scores, grade.answer
        rollout.parse_error = grade.parse_error
    context.tally.add([rollout for _, rollout in rollouts], grades)
    errors = [grade for grade in grades if grade.reward is None]
    check_scale(grades)
    if errors and len(errors) == len(grades) and not all_may_fail:
        raise GraderFailed(f"the grader failed on all {count_errors(errors)}", "grader")
    return errors


def check_scale(grades: Sequence[Grade]) -> None:
    """Raise GraderFailed when the grader's numbers are not on its scale.

    Leaving out the responses above the scale would leave out the best, and train on the rest.
    """
    off = [grade for grade in grades if grade.off_scale]
    if off:
        raise GraderFailed(
            f"of {len(grades)} responses {len(off)} are not on the grader's scale; first: {off[0].error}",
            "grader",
        )


def observe_form(group: Group, prefix: str, sums: MetricSums) -> None:
    """``{prefix}/{N,H}/parse_error``: the share of responses not of the run's ``response_format``."""
    for rollout in group.rollouts:
        missed = float(rollout.parse_error is not None)
        sums.add_mean(f"{prefix}/{rollout.behavior_mode.label}/parse_error", torch.tensor([missed]))


def count_errors(errors: Sequence[Grade]) -> str:
    """``3 responses (other_error: 3), first with: …``."""
    kinds = Counter(error.kind for error in errors)
    counts = ", ".join(f"{kind}: {count}" for kind, count in kinds.most_common())
    return f"{len(errors)} responses ({counts}), first with: {errors[0].error}"


def error_metrics(prefix: str, errors: Sequence[Grade]) -> dict[str, float]:
    """``{prefix}/grader_errors``, and of each kind that there was."""
    name = f"{prefix}/grader_errors"
    kinds = Counter(error.kind for error in errors)
    return {name: float(len(errors))} | {f"{name}/{kind}": float(count) for kind, count in kinds.items()}
