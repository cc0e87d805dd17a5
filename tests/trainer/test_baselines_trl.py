"""Losses and gradients of GRPO, Dr. GRPO, DAPO, CISPO and GSPO against TRL's own loss code.

Both sides get the same model in float64, the same responses and the same old log-probabilities, away from
the current policy so that clips are active; compared are the loss and the gradient of every parameter. TRL's
log-probabilities come from plain logits here, ours from the training path.
"""

import pytest
import torch

from tests.fixtures.groups import N, load_tiny_policy, make_group
from trainer.algorithms import build_algorithm
from trainer.algorithms.base import BatchItem
from trainer.model.policy import Policy
from trainer.model.scoring import score_groups
from trainer.objective.metrics import MetricSums
from trainer.spec.algorithm import AlgorithmSpec, Cispo, Dapo, DrGrpo, ForkingTokens, Grpo, Gspo, ReferenceKl
from trainer.steps.group_loss import Old, batch_counts, group_loss
from trainer.types import Group

MAX_LENGTH = 9
REWARDS = [[1.0, 0.0, 0.0, 1.0], [0.2, 0.9, 0.1, 0.4], [1.0, 1.0, 1.0, 1.0]]
LENGTHS = [[3, 8, 1, 5], [9, 2, 7, 4], [6, 1, 3, 4]]


def padded(rows: list[torch.Tensor], left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows side by side with zeros at one end, and where the rows are."""
    width = max(map(len, rows))
    values, mask = (
        torch.zeros(len(rows), width, dtype=rows[0].dtype),
        torch.zeros(len(rows), width, dtype=torch.long),
    )
    for index, row in enumerate(rows):
        part = slice(width - len(row), None) if left else slice(len(row))
        values[index, part], mask[index, part] = row, 1
    return values, mask


def parameter_gradients(policy: Policy, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(policy.model.parameters())))


def our_loss(policy, spec, groups: list[Group], noise, reference) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The batch loss on the training path, and the old log-probabilities of each group."""
    algorithm = build_algorithm(spec, MAX_LENGTH)
    scored = score_groups(policy, groups, (N,))
    plans = [algorithm.plan(group) for group in groups]
    counts = batch_counts(plans, (N,))
    if algorithm.needs_batch_pass:
        batch = [
            BatchItem(plan, {N: scores[N].logp_T.detach()}, {N: scores[N].entropy_T.detach()})
            for plan, scores in zip(plans, scored, strict=True)
        ]
        algorithm.observe_batch(batch, torch.Generator(), MetricSums())
    old = [scores[N].logp_T.detach() + n for scores, n in zip(scored, noise, strict=True)]
    metrics = MetricSums()
    total = torch.zeros((), dtype=torch.float64)
    for plan, scores, old_T, reference_T in zip(plans, scored, old, reference, strict=True):
        total = total + group_loss(
            algorithm, plan, scores, Old({N: old_T}), counts, 0, metrics, {N: reference_T}
        )
    clipped = metrics.result()
    assert clipped["train/N/clipfrac_high"] > 0, "the comparison should reach the clip"
    return total, old


@pytest.mark.parametrize(
    ("spec", "trl"),
    [
        (Grpo(), ("grpo", "token", 0.2, 0.2, 0.0, 1.0)),
        (Grpo(reference_kl=ReferenceKl(coefficient=0.04)), ("grpo", "token", 0.2, 0.2, 0.04, 1.0)),
        (DrGrpo(), ("dr_grpo", "token", 0.2, 0.2, 0.0, 1.0)),
        (Dapo(), ("dapo", "token", 0.2, 0.28, 0.0, 1.0)),
        # TRL's bound is the cap itself, the paper's is 1 + epsilon.
        (Cispo(clip_high=0.3), ("cispo", "token", 0.2, 1.3, 0.0, 1.0)),
        (Gspo(), ("grpo", "sequence", 3e-4, 4e-4, 0.0, 1.0)),
        (Gspo(clip_low=0.05, clip_high=0.05), ("grpo", "sequence", 0.05, 0.05, 0.0, 1.0)),
        (ForkingTokens(), ("dapo", "token", 0.2, 0.2, 0.0, 0.2)),
    ],
    ids=lambda value: value.type if hasattr(value, "type") else "",
)
def test_loss_and_gradients_agree_with_trl(tiny_model, spec: AlgorithmSpec, trl: tuple):
    from tests.trainer.trl_loss import PlainTrl

    policy = load_tiny_policy(tiny_model)
    groups = [
        make_group(policy, rewards, [N] * 4, index=index, lengths=lengths)
        for index, (rewards, lengths) in enumerate(zip(REWARDS, LENGTHS, strict=True))
    ]
    generator = torch.Generator().manual_seed(1)
    tokens = [int(group.lengths_G.sum()) for group in groups]
    draw = [torch.randn(2, count, generator=generator, dtype=torch.float64) for count in tokens]
    noise = [0.3 * both[0] for both in draw]
    with torch.no_grad():
        reference = [
            scores[N].logp_T + 0.3 * both[1]
            for scores, both in zip(score_groups(policy, groups, (N,)), draw, strict=True)
        ]
    loss, old = our_loss(policy, spec, groups, noise, reference)

    def rows(values: list[torch.Tensor]) -> list[torch.Tensor]:
        pairs = zip(values, groups, strict=True)
        return [row for value, group in pairs for row in value.split(group.lengths_G.tolist())]

    prompts, prompt_mask = padded(
        [torch.tensor(group.prompt_ids[N]) for group in groups for _ in group.rollouts], left=True
    )
    responses, mask = padded(
        [torch.tensor(rollout.response_ids) for group in groups for rollout in group.rollouts], left=False
    )
    advantages = torch.cat([build_algorithm(spec, MAX_LENGTH).plan(group).advantage_G[N] for group in groups])
    expected = PlainTrl(policy.model, MAX_LENGTH, *trl)._compute_loss(
        policy.model,
        {
            "prompt_ids": prompts,
            "prompt_mask": prompt_mask,
            "completion_ids": responses,
            "completion_mask": mask,
            "advantages": advantages,
            "old_per_token_logps": padded(rows(old), left=False)[0],
            "ref_per_token_logps": padded(rows(reference), left=False)[0],
            "num_items_in_batch": mask.sum(),
        },
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    ours, theirs = parameter_gradients(policy, loss), parameter_gradients(policy, expected)
    for found, wanted in zip(ours, theirs, strict=True):
        assert bool(wanted.any())
        # The model's norms and rotations compute in float32, and the two layouts round them differently.
        assert torch.allclose(found, wanted, rtol=1e-6, atol=2e-7 * float(wanted.abs().max()))
