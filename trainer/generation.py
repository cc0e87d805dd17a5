"""First two phases of a step: sample every prompt in its modes, then grade the responses."""

from collections.abc import Callable, Mapping, Sequence

from trainer.data.items import Item
from trainer.errors import GraderFailed, InvalidSpec
from trainer.graders.grading import GradeFunction
from trainer.modes import Mode
from trainer.policy import Policy
from trainer.ranks import ALONE, Ranks
from trainer.rollout.engine import RolloutEngine, SampleRequest
from trainer.seeds import derive_seed
from trainer.types import Group, Rollout

_Graded = tuple[str, float | None, dict[str, float]]


def build_group(policy: Policy, item: Item, index: int, item_index: int, max_prompt_tokens: int) -> Group:
    """A prompt with its token ids in both modes. Raises InvalidSpec when it is too long."""
    prompt_ids = {mode: policy.prompt_ids(item.messages, mode) for mode in Mode}
    longest = max(map(len, prompt_ids.values()))
    if longest > max_prompt_tokens:
        raise InvalidSpec(
            f"the prompt of item {item_index} has {longest} tokens, the limit is {max_prompt_tokens}",
            "rollout.max_prompt_tokens",
        )
    return Group(index, item_index, item.fields, item.messages, prompt_ids)


def sample_groups(
    engine: RolloutEngine,
    groups: Sequence[Group],
    samples: Mapping[Mode, int],
    *,
    seed: tuple[int, str, int],
    max_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    top_k: int | None = None,
    on_progress: Callable[[], None] | None = None,
) -> None:
    """Sample ``samples[mode]`` responses of every group, all modes in one batch, into ``group.rollouts``.

    ``seed`` is the run's seed, the purpose, and the step. ``top_p`` and ``top_k`` are for evaluation.
    """
    requests, owners = [], []
    for group in groups:
        number = 0
        for mode, count in samples.items():
            for _ in range(count):
                one_seed = derive_seed(*seed, group.index, number)
                requests.append(SampleRequest(tuple(group.prompt_ids[mode]), one_seed))
                owners.append((group, mode))
                number += 1
    drawn = engine.generate(
        requests,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        on_progress=on_progress,
    )
    for (group, mode), sample in zip(owners, drawn, strict=True):
        group.rollouts.append(Rollout(mode, sample.response_ids, sample.logprobs, sample.truncated))


def grade_groups(
    policy: Policy,
    groups: Sequence[Group],
    grade: GradeFunction,
    all_may_fail: bool = False,
    ranks: Ranks = ALONE,
) -> list[str]:
    """Decode and grade every response; returns the grader's errors.

    The first of ``ranks`` grades, and all learn the rewards; joint. Raises GraderFailed when not one response
    could be graded, unless ``all_may_fail``.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]

    def on_first() -> tuple[list[str], list[_Graded]]:
        errors = _grade(policy, groups, grade, all_may_fail)
        return errors, [(rollout.text, rollout.reward, rollout.scores) for rollout in rollouts]

    errors, graded = ranks.from_first(on_first)
    for rollout, (text, reward, scores) in zip(rollouts, graded, strict=True):
        rollout.text, rollout.reward, rollout.scores = text, reward, scores
    return errors


def _grade(policy: Policy, groups: Sequence[Group], grade: GradeFunction, all_may_fail: bool) -> list[str]:
    errors: list[str] = []
    graded = 0
    for group in groups:
        for rollout in group.rollouts:
            rollout.text = policy.text(rollout.response_ids)
            result = grade(group.item, rollout.text)
            rollout.reward, rollout.scores = result.reward, result.scores
            if result.error is not None:
                errors.append(result.error)
            else:
                graded += 1
    if errors and not graded and not all_may_fail:
        raise GraderFailed(
            f"the grader failed on all {len(errors)} responses, first with: {errors[0]}", "grader"
        )
    return errors
