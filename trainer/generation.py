"""First two phases of a step: sample every prompt in its modes, then grade the responses."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from trainer.data.items import Item
from trainer.errors import GraderFailed, InvalidSpec
from trainer.graders.grade import Grade, Grader, Sample
from trainer.modes import Mode
from trainer.policy import Policy
from trainer.ranks import ALONE, Ranks
from trainer.rollout.engine import RolloutEngine, SampleRequest
from trainer.seeds import derive_seed
from trainer.types import Group, Rollout


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
    grader: Grader,
    *,
    all_may_fail: bool = False,
    on_progress: Callable[[], None],
    ranks: Ranks = ALONE,
) -> list[Grade]:
    """Decode every response and grade them all at once; returns the grades that are errors.

    The first of ``ranks`` grades, and all learn the rewards; joint. Raises GraderFailed when not one response
    could be graded, unless ``all_may_fail``.
    """
    rollouts = [(group, rollout) for group in groups for rollout in group.rollouts]
    for _, rollout in rollouts:
        rollout.text = policy.text(rollout.response_ids)
    samples = [Sample(group.item, rollout.text) for group, rollout in rollouts]
    grades = ranks.from_first(lambda: grader.grade_many(samples, on_progress))
    for (_, rollout), grade in zip(rollouts, grades, strict=True):
        rollout.reward, rollout.scores = grade.reward, grade.scores
    errors = [grade for grade in grades if grade.reward is None]
    if errors and len(errors) == len(grades) and not all_may_fail:
        raise GraderFailed(f"the grader failed on all {count_errors(errors)}", "grader")
    return errors


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
