"""What a step's rollouts say: the records that are kept, and the per-mode averages."""

from torch import Tensor

from trainer.events import RolloutRecord
from trainer.metrics import MetricSums
from trainer.modes import Mode
from trainer.policy import Policy
from trainer.types import Group


def rollout_records(policy: Policy, groups: list[Group], entropy_T: dict[int, Tensor]) -> list[RolloutRecord]:
    """One record a response, with per-token log-probability and entropy under its behaviour mode."""
    records = []
    for group in groups:
        entropies = entropy_T[group.index].split(group.lengths_G.tolist())
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
                    logprobs=[round(value, 5) for value in rollout.logprobs],
                    entropies=[round(value, 5) for value in entropy.tolist()] if scored else [],
                    token_texts=[str(policy.tokenizer.decode([token])) for token in rollout.response_ids],
                )
            )
    return records


def mode_metrics(groups: list[Group]) -> dict[str, float]:
    """Reward, length and truncation per behaviour mode, and the share of groups with nothing to prefer."""
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
        graded = group.rewards_G[~group.rewards_G.isnan()]
        flat = graded.numel() < 2 or bool(graded.min() == graded.max())
        sums.add_mean("train/zero_variance", graded.new_tensor([float(flat)]))
    generated = sum(int(group.lengths_G.sum()) for group in groups)
    return sums.result() | {"train/tokens_generated": float(generated)}
