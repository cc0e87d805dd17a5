"""The options that every algorithm has: reference-KL, and importance between trainer and rollout engine."""

import math

import pytest
import torch

from tests.fixtures.groups import H, N, load_tiny_policy, make_group
from trainer.algorithms import build_algorithm
from trainer.model.scoring import Scores
from trainer.objective.metrics import MetricSums
from trainer.spec.algorithm import Grpo, PolicySplit, ReferenceKl
from trainer.spec.modes import Mode
from trainer.steps.group_loss import Old, batch_counts, group_loss, reference_penalty

ESTIMATORS = ("k1", "k2", "k3")


def penalty(logp: torch.Tensor, reference: torch.Tensor, estimator) -> torch.Tensor:
    return reference_penalty(logp, reference, ReferenceKl(coefficient=1.0, estimator=estimator))


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        ("k1", [0.0, math.log(2), -math.log(2)]),
        ("k2", [0.0, math.log(2) ** 2 / 2, math.log(2) ** 2 / 2]),
        ("k3", [0.0, 0.5 - 1 + math.log(2), 2.0 - 1 - math.log(2)]),
    ],
)
def test_estimators_by_hand(estimator, expected):
    """pi / ref = 1, 2, 1/2."""
    logp = torch.tensor([0.3, 0.4, 0.2], dtype=torch.float64).log()
    reference = torch.tensor([0.3, 0.2, 0.4], dtype=torch.float64).log()
    assert penalty(logp, reference, estimator).tolist() == pytest.approx(expected)


def test_only_k2_has_the_gradient_of_the_reverse_kl():
    """All actions of a softmax enumerated: E_pi[grad k(x)] against grad KL(pi || ref)."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    reference = torch.log_softmax(torch.randn(6, generator=generator, dtype=torch.float64), -1)
    log_p = torch.log_softmax(logits, -1)
    reverse = (log_p.exp() * (log_p - reference)).sum()
    forward = (reference.exp() * (reference - log_p)).sum()
    (of_reverse,) = torch.autograd.grad(reverse, logits, retain_graph=True)
    (of_forward,) = torch.autograd.grad(forward, logits, retain_graph=True)
    found = {}
    for estimator in ESTIMATORS:
        expected = (log_p.detach().exp() * penalty(log_p, reference, estimator)).sum()
        (found[estimator],) = torch.autograd.grad(expected, logits, retain_graph=True)
    assert torch.allclose(found["k2"], of_reverse, rtol=1e-10)
    assert torch.allclose(found["k1"], torch.zeros_like(logits), atol=1e-12)
    assert torch.allclose(found["k3"], of_forward, rtol=1e-10)
    assert not torch.allclose(found["k3"], of_reverse, rtol=0.1)


def test_k1_and_k3_estimate_the_reverse_kl_in_value():
    generator = torch.Generator().manual_seed(1)
    log_p, reference = torch.log_softmax(torch.randn(2, 6, generator=generator).double(), -1)
    reverse = float((log_p.exp() * (log_p - reference)).sum())
    for estimator in ("k1", "k3"):
        mean = float((log_p.exp() * penalty(log_p, reference, estimator)).sum())
        assert mean == pytest.approx(reverse)


def test_a_token_that_was_given_up_stays_finite():
    logp = torch.tensor([-200.0], requires_grad=True)
    for estimator in ESTIMATORS:
        value = penalty(logp, torch.tensor([-0.1]), estimator)
        (gradient,) = torch.autograd.grad(value.sum(), logp)
        assert bool(value.isfinite().all()) and bool(gradient.isfinite().all())


def group_gradient(policy, spec, group, logp, reference=None, metrics=None) -> dict[Mode, torch.Tensor]:
    """d loss / d logp of one group at rho = 1, by prompt mode; shapes (T,)."""
    algorithm = build_algorithm(spec)
    plan = algorithm.plan(group)
    counts = batch_counts([plan], tuple(algorithm.mode_weights(0)))
    variables = {mode: value.clone().requires_grad_() for mode, value in logp.items()}
    zeros = torch.zeros(int(group.lengths_G.sum()), dtype=torch.float64)
    scores = {mode: Scores(value, zeros, zeros[:, None]) for mode, value in variables.items()}
    loss = group_loss(algorithm, plan, scores, Old(logp), counts, 0, metrics or MetricSums(), reference)
    return dict(zip(variables, torch.autograd.grad(loss, list(variables.values())), strict=True))


def test_the_reference_term_is_weighted_like_the_loss(policy):
    """beta times k2's gradient x, at each token's weight; in groups without advantage too."""
    group = make_group(policy, [1.0, 1.0], [N, N], lengths=[2, 1])
    logp = {N: torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64)}
    reference = {N: torch.tensor([-1.5, -1.0, -0.5], dtype=torch.float64)}
    kl = ReferenceKl(coefficient=0.1, estimator="k2")
    (gradient,) = group_gradient(policy, Grpo(reference_kl=kl), group, logp, reference).values()
    assert gradient.tolist() == pytest.approx([0.1 * 0.5 / 4, 0.1 * -1.0 / 4, 0.0])


@pytest.fixture(scope="module")
def policy(tiny_model):
    return load_tiny_policy(tiny_model)


def test_truncated_importance_by_hand(policy):
    """omega = min(pi_trainer / pi_rollout, 2) multiplies each token's gradient."""
    group = make_group(policy, [1.0, 0.0], [N, N], lengths=[3, 1])
    logp = {N: torch.tensor([-1.0, -1.0, -1.0, -1.0], dtype=torch.float64)}
    group.rollouts[0].logprobs = [-1.0, -1.0 - math.log(1.5), -1.0 - math.log(7.0)]
    group.rollouts[1].logprobs = [-1.0 + math.log(4.0)]
    plain = group_gradient(policy, Grpo(), group, logp)[N]
    metrics = MetricSums()
    spec = Grpo(rollout_importance_cap=2.0)
    weighted = group_gradient(policy, spec, group, logp, metrics=metrics)[N]
    assert (weighted / plain).tolist() == pytest.approx([1.0, 1.5, 2.0, 0.25])
    assert metrics.result()["rollout/importance_clipped"] == 1 / 4


@pytest.mark.parametrize(
    ("engine", "cap", "in_force"),
    [("transformers", None, 0), ("vllm", None, 2), ("vllm", 0, 0), ("vllm", 5, 5), ("transformers", 5, 5)],
)
def test_rows_are_weighed_unless_the_trainers_own_model_sampled_them(engine, cap, in_force):
    algorithm = build_algorithm(Grpo(rollout_importance_cap=cap), engine=engine)
    assert algorithm.rollout_importance_cap == in_force


def test_rows_are_weighed_where_responses_were_held_to_a_form():
    assert build_algorithm(Grpo(), forced=True).rollout_importance_cap == 2
    assert build_algorithm(Grpo(rollout_importance_cap=1), forced=True).rollout_importance_cap == 1


def test_truncated_importance_weighs_own_rows_alone(policy):
    """The engine's log-probabilities are those of the behaviour mode: cross rows have none to compare."""
    group = make_group(policy, [1.0, 0.0], [N, H], lengths=[1, 1])
    logp = {mode: torch.tensor([-1.0, -1.0], dtype=torch.float64) for mode in Mode}
    for rollout in group.rollouts:
        rollout.logprobs = [-1.0 - math.log(1.5)]
    spec = PolicySplit(eta=0.0)
    plain = group_gradient(policy, spec, group, logp)
    spec = PolicySplit(eta=0.0, rollout_importance_cap=2.0)
    weighted = group_gradient(policy, spec, group, logp)
    assert (weighted[N] / plain[N]).tolist() == pytest.approx([1.5, 1.0])
    assert (weighted[H] / plain[H]).tolist() == pytest.approx([1.0, 1.5])
