"""What is kept of a step's rollouts: one record per response."""

import torch
from torch import Tensor

from trainer.model.policy import Policy
from trainer.spec.events import RolloutRecord
from trainer.types import Group


def rollout_records(policy: Policy, groups: list[Group], entropy_T: dict[int, Tensor]) -> list[RolloutRecord]:
    """One record per response, with per-token log-probability and entropy under its behaviour mode.

    ``entropy_T`` has the groups that were scored, by their index; the others were dropped.
    """
    records = []
    for group in groups:
        dropped = group.index not in entropy_T
        lengths = group.lengths_G
        unknown_T = lengths.new_full((int(lengths.sum()),), float("nan"), dtype=torch.float32)
        entropies = entropy_T.get(group.index, unknown_T).split(lengths.tolist())
        prompts = {mode: policy.tokenizer.decode(ids) for mode, ids in group.prompt_ids.items()}
        for index, (rollout, entropy) in enumerate(zip(group.rollouts, entropies, strict=True)):
            scored = not bool(entropy.isnan().any())
            records.append(
                RolloutRecord(
                    group=group.index,
                    index=index,
                    item=group.item_index,
                    mode=rollout.behavior_mode,
                    prompt=str(prompts[rollout.behavior_mode]),
                    response=rollout.text,
                    reward=rollout.reward,
                    scores=rollout.scores,
                    parse_error=rollout.parse_error,
                    tokens=len(rollout.response_ids),
                    truncated=rollout.truncated,
                    dropped=dropped,
                    logprobs=[round(value, 5) for value in rollout.logprobs],
                    entropies=[round(value, 5) for value in entropy.tolist()] if scored else [],
                    token_texts=[policy.token_text(token) for token in rollout.response_ids],
                )
            )
    return records
