"""What a step's rollouts say: the records that are kept, and the per-mode averages."""

import torch
from torch import Tensor

from trainer.advantage import has_variance
from trainer.events import RolloutRecord
from trainer.metrics import MetricSums
from trainer.modes import Mode
from trainer.policy import Policy
from trainer.types import Group

#: Longer ones make no names of metrics.
MAX_SCORE_NAME = 200


def rollout_records(policy: Policy, groups: list[Group], entropy_T: dict[int, Tensor]) -> list[RolloutRecord]:
    """One record a response, with per-token log-probability and entropy under its behaviour mode.

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
                    tokens=len(rollout.response_ids),
                    truncated=rollout.truncated,
                    dropped=dropped,
                    logprobs=[round(value, 5) for value in rollout.logprobs],
                    entropies=[round(value, 5) for value in entropy.tolist()] if scored else [],
                    token_texts=[str(policy.tokenizer.decode([token])) for token in rollout.response_ids],
                )
            )
    return records


def mode_metrics(groups: list[Group]) -> dict[str, float]:
    """Reward, length and truncation per behaviour mode, the share of groups with nothing to prefer, the
    graders' scores by name, and what was generated; over all groups that were sampled, dropped ones too."""
    sums = MetricSums()
    for group in groups:
        for mode in Mode:
            own = group.produced_by(mode)
            label = mode.label
            rewards = group.rewards_G[own]
            sums.add_mean(f"train/{label}/reward", rewards[~rewards.isnan()])
            sums.add_mean(f"train/{label}/length", group.lengths_G[own])
            truncated = [float(r.truncated) for r in group.rollouts if r.behavior_mode is mode]
            sums.add_mean(f"train/{label}/truncated", group.rewards_G.new_tensor(truncated))
        for rollout in group.rollouts:
            for name, score in rollout.scores.items():
                if len(name) <= MAX_SCORE_NAME:
                    sums.add_mean(f"scores/{name}", group.rewards_G.new_tensor([score]))
        flat = not has_variance(group.rewards_G)
        sums.add_mean("train/zero_variance", group.rewards_G.new_tensor([float(flat)]))
    return sums.result() | {
        "train/samples_generated": float(sum(len(group.rollouts) for group in groups)),
        "train/tokens_generated": float(sum(int(group.lengths_G.sum()) for group in groups)),
    }
