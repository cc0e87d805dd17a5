"""Policy Split on one page: every line between a prompt and changed weights.

The loop of the trainer (trainer/loop.py) does this with evaluation, checkpoints, exact resumption, several
processes and several kinds of graders around it. Here nothing is around it.
"""

import argparse
import random
from pathlib import Path

import torch

from trainer.algorithms.policy_split import PolicySplitAlgorithm
from trainer.model.policy import Policy, load_policy
from trainer.model.scoring import score_groups
from trainer.objective.metrics import MetricSums
from trainer.rollout.engine import SampleRequest
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.spec.algorithm import PolicySplit
from trainer.spec.model import ModelSpec
from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT, Mode
from trainer.steps.group_loss import Old, batch_counts, group_loss
from trainer.types import Group, Rollout

TEMPERATURE = 1.0


def reward(answer: str, text: str) -> float:
    """What is wanted, from 0 to 1: here that the answer is in the response, the shorter the better."""
    return float(answer in text) / (1 + len(text) / 100)


def groups_of(policy: Policy, prompts: int, generator: random.Random) -> list[Group]:
    """Prompts of a step, each as the token ids of both modes: H is N behind the mode's system message."""
    groups = []
    for index in range(prompts):
        a, b = generator.randint(1, 4), generator.randint(1, 5)
        messages = [{"role": "user", "content": f"What is {a} + {b}?"}]
        ids = {mode: policy.prompt_ids(messages, mode) for mode in Mode}
        groups.append(Group(index, index, {"answer": str(a + b)}, messages, ids))
    return groups


def sample(engine: TransformersEngine, groups: list[Group], samples: dict[Mode, int], tokens: int) -> None:
    """Half of a prompt's responses from each mode; each with a seed of its own."""
    requests, owners = [], []
    for group in groups:
        for mode, count in samples.items():
            for _ in range(count):
                requests.append(SampleRequest(tuple(group.prompt_ids[mode]), random.getrandbits(31)))
                owners.append((group, mode))
    drawn = engine.generate(requests, max_tokens=tokens, temperature=TEMPERATURE)
    for (group, mode), one in zip(owners, drawn, strict=True):
        group.rollouts.append(Rollout(mode, one.response_ids, one.logprobs, one.truncated))


def train_step(
    policy: Policy,
    engine: TransformersEngine,
    algorithm: PolicySplitAlgorithm,
    groups: list[Group],
    step: int,
) -> tuple[torch.Tensor, MetricSums]:
    """The loss of a step with its gradients in the weights, and what was seen on the way."""
    # 1. Grade. Rewards are compared within a prompt's group, never across prompts.
    for group in groups:
        for rollout in group.rollouts:
            rollout.text = policy.response_text(rollout.response_ids)
            rollout.reward = reward(str(group.item["answer"]), rollout.text)

    # 2. Which response is a row under which prompt (all under both, unless sharing says otherwise), and the
    #    advantage A = (r - mean r) / std r, the same number in both modes.
    plans = [algorithm.plan(group) for group in groups]
    modes = algorithm.scored_modes(step)
    counts = batch_counts(plans, modes)

    metrics, total = MetricSums(), torch.zeros(())
    for plan in plans:
        # 3. One forward pass over the rows of both prompts: log-probabilities and entropies, with gradients.
        (scores,) = score_groups(policy, [plan.group], modes, TEMPERATURE)
        # 4. With one update a batch, the policy that sampled is the policy of the moment.
        old = Old.of(scores)
        # 5. The high-entropy mode's rows get the bonus, clamped to |A| / kappa; the clipped losses of both
        #    modes are weighted and added. Each group is a share of the batch: a plain sum over groups.
        loss = group_loss(algorithm, plan, scores, old, counts, step, metrics)
        loss.backward()
        total = total + loss.detach().cpu()
    return total, metrics


def main() -> None:
    """Train for some steps; print what both modes get."""
    parser = argparse.ArgumentParser(description="Policy Split on one page")
    parser.add_argument("--model", type=Path, required=True, help="a folder in Hugging Face format")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=4, help="prompts per step")
    parser.add_argument(
        "--samples", type=int, default=8, help="responses per prompt, half of them from each mode"
    )
    parser.add_argument("--tokens", type=int, default=24, help="the longest response")
    chosen = parser.parse_args()

    random.seed(0)
    policy = load_policy(ModelSpec(path=str(chosen.model), dtype="float32"), DEFAULT_HIGH_ENTROPY_PROMPT)
    engine = TransformersEngine(policy)
    algorithm = PolicySplitAlgorithm(PolicySplit(eta=0.5, kappa=1.2))
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=4e-5, weight_decay=0.01)

    for step in range(chosen.steps):
        groups = groups_of(policy, chosen.prompts, random.Random(step))
        sample(engine, groups, algorithm.samples(step, chosen.samples), chosen.tokens)
        loss, metrics = train_step(policy, engine, algorithm, groups, step)
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

        means = {}
        for mode in Mode:
            own = [r.reward or 0.0 for group in groups for r in group.rollouts if r.behavior_mode is mode]
            means[mode] = sum(own) / len(own)
        seen = metrics.result()
        print(
            f"step {step + 1}: reward {means[Mode.NORMAL]:.2f} normal, "
            f"{means[Mode.HIGH_ENTROPY]:.2f} high-entropy; "
            f"loss {float(loss):+.3f}; mean bonus {seen.get('train/H/bonus_abs', 0.0):.3f}"
        )


if __name__ == "__main__":
    main()
