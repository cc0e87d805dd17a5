"""Thinking and answers of responses: separated for graders, and measured separately."""

from bisect import bisect_left

import torch
from torch import Tensor

from trainer.graders.grade import Sample
from trainer.graders.thoughts import opens_thought, split_thoughts
from trainer.model.policy import Policy
from trainer.objective.metrics import MetricSums
from trainer.types import Group, Rollout

#: Tokens at a prompt's end among which a template opens thoughts.
PROMPT_END = 16


def take_apart(policy: Policy, group: Group, rollout: Rollout) -> Sample:
    """What graders see of a response; how many of its tokens are thoughts is noted in it."""
    prompt_end = group.prompt_ids[rollout.behavior_mode][-PROMPT_END:]
    parts = split_thoughts(rollout.text, opens_thought(policy.response_text(prompt_end)))
    if parts.thought_end:
        # The fewest tokens whose text has the thoughts and their end.
        ids = rollout.response_ids
        rollout.thought_tokens = bisect_left(
            range(len(ids)), parts.thought_end, key=lambda n: len(policy.response_text(ids[:n]))
        )
    return Sample(group.item, parts.answer, parts.reasoning, rollout.text)


def thought_metrics(groups: list[Group], entropy_T: dict[int, Tensor]) -> dict[str, float]:
    """``train/{N,H}/{reasoning,answer}_{length,entropy_nats}``; nothing where no response has thoughts."""
    sums = MetricSums()
    for group in groups:
        observe_thought_length(group, "train", sums)
        if group.index in entropy_T:
            observe_thought_entropy(group, entropy_T[group.index], "train", sums)
    return sums.result()


def observe_thought_length(group: Group, prefix: str, sums: MetricSums) -> None:
    """Tokens of thoughts and of answers, of the responses that have thoughts."""
    for rollout in group.rollouts:
        if end := rollout.thought_tokens:
            name = f"{prefix}/{rollout.behavior_mode.label}"
            sums.add_mean(f"{name}/reasoning_length", torch.tensor([float(end)]))
            answer = len(rollout.response_ids) - end
            sums.add_mean(f"{name}/answer_length", torch.tensor([float(answer)]))


def observe_thought_entropy(group: Group, entropy_T: Tensor, prefix: str, sums: MetricSums) -> None:
    """Entropy within thoughts and within answers, of the responses that have thoughts and were scored."""
    for rollout, entropy in zip(group.rollouts, entropy_T.split(group.lengths_G.tolist()), strict=True):
        if end := rollout.thought_tokens:
            name = f"{prefix}/{rollout.behavior_mode.label}"
            parts = {"reasoning": entropy[:end], "answer": entropy[end:]}
            sums.add_known_means({f"{name}/{part}_entropy_nats": value for part, value in parts.items()})
