"""Two modes on shared logits, z_M = u + v_M: how their gradients meet in u, against the closed form.

A bandit: responses are one token, so the whole loss of a group is known in closed form,
dL/dz_M = -w_M sum_i A^M_i (onehot(o_i) - p_M) / N_M.
"""

import pytest
import torch
from torch import Tensor

from tests.fixtures.groups import H, N, bare_group, plain_scores
from trainer.algorithms import build_algorithm
from trainer.algorithms.base import AdvantageInputs
from trainer.diagnostics.gradients import gradient_statistics, layer_products
from trainer.objective.metrics import MetricSums
from trainer.spec.algorithm import PolicySplit
from trainer.spec.modes import Mode
from trainer.steps.group_loss import Old, batch_counts, group_loss
from trainer.types import Group

VOCABULARY = 5
ACTIONS = [0, 1, 2, 3, 0, 4]
BEHAVIOR = [N, N, N, H, H, H]
REWARDS = [1.0, 0.0, 0.0, 1.0, 0.5, 0.0]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def loss_of(spec: PolicySplit, group: Group, z: dict[Mode, Tensor]) -> tuple[Tensor, dict[Mode, Tensor]]:
    """The group's loss by the trainer's own path, and the shaped advantages it used."""
    algorithm = build_algorithm(spec)
    plan = algorithm.plan(group)
    tokens = torch.tensor([r.response_ids[0] for r in group.rollouts])
    scores = {mode: plain_scores(z[mode].log_softmax(-1)[tokens]) for mode in Mode}
    old = {mode: scores[mode].logp_T.detach() for mode in Mode}
    counts = batch_counts([plan], tuple(Mode))
    shaped = {
        mode: algorithm.shape_advantage(
            AdvantageInputs(plan, mode, old, torch.ones(len(tokens)), step=0), MetricSums()
        )
        for mode in Mode
    }
    return group_loss(algorithm, plan, scores, Old(old), counts, 0, MetricSums()), shaped


def closed_form(group: Group, shaped: dict[Mode, Tensor], z: dict[Mode, Tensor], mode: Mode) -> Tensor:
    onehot = torch.eye(VOCABULARY, dtype=torch.float64)[[r.response_ids[0] for r in group.rollouts]]
    per_row = shaped[mode][:, None] * (onehot - z[mode].softmax(-1))
    return -0.5 * per_row.sum(0) / len(group.rollouts)


@pytest.mark.parametrize("eta", [0.0, 0.3])
def test_the_shared_logits_get_the_sum_of_both_modes_gradients(eta: float):
    """dL/du = g_N + g_H, each mode's being dL/dv_M, and each equal to the closed form."""
    u, v_n, v_h = (x.requires_grad_() for x in draw(3, VOCABULARY))
    group = bare_group([[a] for a in ACTIONS], REWARDS, BEHAVIOR)
    z = {N: u + v_n, H: u + v_h}
    loss, shaped = loss_of(PolicySplit(eta=eta), group, z)
    g_u, g_n, g_h = torch.autograd.grad(loss, (u, v_n, v_h))
    assert torch.allclose(g_u, g_n + g_h, rtol=0, atol=1e-15)
    with torch.no_grad():
        for found, mode in ((g_n, N), (g_h, H)):
            assert torch.allclose(found, closed_form(group, shaped, z, mode), rtol=0, atol=1e-14)


def test_the_high_entropy_gradient_is_accuracy_plus_bonus():
    """At rho = 1 the loss is linear in the advantage: g_H = g_accuracy + g_bonus, the bonus's part alone."""
    z_n, z_h = draw(2, VOCABULARY, seed=1)
    group = bare_group([[a] for a in ACTIONS], REWARDS, BEHAVIOR)
    gradients, bonus = {}, torch.zeros(0)
    for eta in (0.0, 0.3):
        variable = z_h.clone().requires_grad_()
        loss, shaped = loss_of(PolicySplit(eta=eta), group, {N: z_n, H: variable})
        (gradients[eta],) = torch.autograd.grad(loss, variable)
        bonus = shaped[H] - shaped[N]
    by_bonus = closed_form(group, {H: bonus}, {H: z_h}, H)
    assert float(by_bonus.abs().max()) > 1e-3
    assert torch.allclose(gradients[0.3] - gradients[0.0], by_bonus, rtol=0, atol=1e-14)


def mode_gradients(
    spec: PolicySplit, actions: list[int], rewards: list[float], z: dict[Mode, Tensor]
) -> tuple[Tensor, Tensor, float]:
    """g_N and g_H with respect to u, and the cosine that the diagnostic makes of them."""
    shift = {mode: torch.zeros(VOCABULARY, dtype=torch.float64, requires_grad=True) for mode in Mode}
    behavior = [N] * (len(actions) // 2) + [H] * (len(actions) // 2)
    group = bare_group([[a] for a in actions], rewards, behavior)
    loss, _ = loss_of(spec, group, {mode: z[mode] + shift[mode] for mode in Mode})
    g_n, g_h = torch.autograd.grad(loss, (shift[N], shift[H]))
    zero = torch.zeros_like(g_n)
    found = gradient_statistics(
        layer_products(normal=[g_n], accuracy=[g_h], bonus=[zero], null=[zero], layers=[1])
    )
    assert found["diag/grad_cos/L1"] == found["diag/grad_cos"]
    assert found["diag/grad_conflict_rate"] == float(found["diag/grad_cos"] < 0)
    return g_n, g_h, found["diag/grad_cos"]


@pytest.mark.parametrize("seed", range(4))
def test_the_diagnostic_cosine_is_the_analytic_one(seed: int):
    z_n, z_h = draw(2, VOCABULARY, seed=seed)
    z = {N: z_n, H: z_h}
    _, _, found = mode_gradients(PolicySplit(eta=0.0), ACTIONS, REWARDS, z)
    rewards = torch.tensor(REWARDS, dtype=torch.float64)
    advantage = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
    onehot = torch.eye(VOCABULARY, dtype=torch.float64)[ACTIONS]
    g_n, g_h = ((advantage[:, None] * (onehot - z[mode].softmax(-1))).sum(0) for mode in Mode)
    assert found == pytest.approx(float(g_n @ g_h / (g_n.norm() * g_h.norm())), abs=1e-14)


ALIKE = {mode: torch.zeros(VOCABULARY, dtype=torch.float64) for mode in Mode}


def test_planted_conflict_gives_minus_one():
    """Each mode's own rows reward the opposite action."""
    spec = PolicySplit(eta=0.0, sharing="none")
    g_n, g_h, cosine = mode_gradients(spec, [0, 1, 0, 1], [1.0, 0.0, 0.0, 1.0], ALIKE)
    assert torch.allclose(g_n, -g_h, rtol=0, atol=1e-15) and bool(g_n.any())
    assert cosine == pytest.approx(-1.0, abs=1e-14)


def test_identical_rewards_give_plus_one():
    spec = PolicySplit(eta=0.0, sharing="none")
    _, _, cosine = mode_gradients(spec, [0, 1, 0, 1], [1.0, 0.0, 1.0, 0.0], ALIKE)
    assert cosine == pytest.approx(1.0, abs=1e-14)


def test_shared_rows_cannot_conflict_where_the_modes_agree():
    """With both modes on the same distribution, sharing makes a planted conflict vanish from both."""
    actions, rewards = [0, 1, 0, 1], [1.0, 0.0, 0.0, 1.0]
    behavior = [N, N, H, H]
    group = bare_group([[a] for a in actions], rewards, behavior)
    z = {mode: x.clone().requires_grad_() for mode, x in ALIKE.items()}
    loss, _ = loss_of(PolicySplit(eta=0.0), group, z)
    g_n, g_h = torch.autograd.grad(loss, (z[N], z[H]))
    assert float(g_n.abs().max()) < 1e-15 and float(g_h.abs().max()) < 1e-15


def test_without_sharing_each_mode_is_compared_with_itself_alone():
    """Baseline, deviation and the bonus's z-score are those of the mode's own responses."""
    group = bare_group([[a] for a in ACTIONS], REWARDS, BEHAVIOR)
    z = dict(zip(Mode, draw(2, VOCABULARY, seed=2), strict=True))
    _, shaped = loss_of(PolicySplit(eta=0.3, alpha=0.4, kappa=2.0, sharing="none"), group, z)
    logp = {mode: z[mode].log_softmax(-1)[ACTIONS] for mode in Mode}
    rewards = torch.tensor(REWARDS, dtype=torch.float64)
    for mode, own in ((N, slice(0, 3)), (H, slice(3, 6))):
        advantage = (rewards[own] - rewards[own].mean()) / (rewards[own].std() + 1e-6)
        if mode is H:
            b = -0.4 * logp[H][own] - 0.6 * logp[N][own]
            bonus = 0.3 * (b - b.mean()) / (b.std() + 1e-6)
            advantage = advantage + torch.minimum(bonus.abs(), advantage.abs() / 2) * bonus.sign()
        assert torch.allclose(shaped[mode][own], advantage, rtol=0, atol=1e-14)
