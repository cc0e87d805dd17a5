"""R12 of rows: a batch trained in parts has the gradients, the loss and the metrics of whole groups.

Every algorithm, over two updates of a batch between which the weights move, so that ratios are 1 in the first
and not in the second; responses of very unequal lengths, some empty, some without a reward; groups in two
parts or some, and in as many as they have rows. In float64, but for norms and positions inside the model.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.groups import H, N, load_tiny_policy, make_group, positions_of
from tests.fixtures.steps import step_context
from trainer.algorithms import ALGORITHMS, build_algorithm
from trainer.model.optim import MasterAdamW
from trainer.model.packing import Layout
from trainer.model.policy import Policy, load_policy
from trainer.model.rows import row_positions
from trainer.model.scoring import group_rows
from trainer.spec.algorithm import (
    AdaptiveEntropy,
    AlgorithmSpec,
    AnswerExploration,
    Cispo,
    ClipCov,
    Dapo,
    DrGrpo,
    EdgeGrpo,
    EntropyAdvantage,
    EntropyBonus,
    ForkingTokens,
    Grpo,
    Gspo,
    KlCov,
    PolicySplit,
    ReferenceKl,
)
from trainer.spec.model import LoraSpec, ModelSpec
from trainer.spec.modes import Mode
from trainer.spec.run import OptimizerSpec
from trainer.steps.update import UpdateResult, update
from trainer.types import Group

#: Longer than most responses. The default one has more tokens than all of them, which shows nothing more.
PROMPT = "Explore a line of thought that few would take."
LENGTHS = [[40, 1, 7, 0, 23], [3, 3, 60, 5, 1], [6, 2, 9, 4, 8]]
REWARDS = [[1.0, 0.0, 0.5, 0.0, None], [0.0, 1.0, 0.0, 1.0, 0.3], [1.0] * 5]
ANSWERS = ["a", "b", "a", None, "c"]
BEHAVIOR = [N, H, N, H, H]

SPECS: dict[str, AlgorithmSpec] = {
    "grpo": Grpo(),
    "grpo, unique": Grpo(uniqueness=1.0),
    "dr_grpo": DrGrpo(),
    "dapo": Dapo(),
    "gspo": Gspo(),
    "cispo": Cispo(clip_high=0.01),
    "entropy_bonus": EntropyBonus(),
    "adaptive_entropy": AdaptiveEntropy(initial_coefficient=0.1),
    "entropy_advantage": EntropyAdvantage(),
    "clip_cov": ClipCov(share=0.2, band_low=-9.0, band_high=9.0),
    "kl_cov": KlCov(share=0.2),
    "forking_tokens": ForkingTokens(),
    "edge_grpo": EdgeGrpo(),
    "policy_split": PolicySplit(),
    "large bonus": PolicySplit(eta=0.5, alpha=0.2, eta_normal=-0.3, aggregation="token_mean"),
    "clamped outside": PolicySplit(eta=0.5, clip_order="outside", aggregation="sequence_mean"),
    "alpha 1": PolicySplit(eta=0.5, alpha=1.0),
    "no bonus": PolicySplit(eta=0.0),
    "no sharing": PolicySplit(eta=0.5, sharing="none"),
    "no sharing, pooled": PolicySplit(eta=0.5, sharing="none_pooled", aggregation="constant_length"),
    "one way": PolicySplit(eta=0.5, sharing="h_to_n"),
    "the other way": PolicySplit(eta=0.5, sharing="n_to_h"),
    "cross rows weighed": PolicySplit(eta=0.3, cross_importance="truncated", aggregation="sequence_sum"),
    "negative cross rows dropped": PolicySplit(eta=0.3, cross_negative="drop"),
    "frozen": PolicySplit(eta=0.3, freeze_step=0),
    "normal mode frozen": PolicySplit(eta=0.3, freeze_step=0, freeze_mode="normal"),
    "answers": PolicySplit(eta=0.3, exploration=AnswerExploration(level="answer")),
    "warm-up": PolicySplit(eta=0.3, eta_warmup_steps=3),
}
OTHER_SEED = ["grpo", "kl_cov", "large bonus", "cross rows weighed"]
REFERENCE = {"reference_kl": ReferenceKl(coefficient=0.1), "rollout_importance_cap": 1.01}


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> Policy:
    return load_tiny_policy(tiny_model, prompt=PROMPT)


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> Policy:
    """Weights of its own, unlike those that are trained."""
    other = load_tiny_policy(tiny_model, prompt=PROMPT)
    for parameter in other.model.parameters():
        parameter.data.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    other.model.requires_grad_(False)
    return other


def groups_of(policy: Policy, spec: AlgorithmSpec, seed: int) -> list[Group]:
    behavior = BEHAVIOR if isinstance(spec, PolicySplit) else [N] * 5
    groups = []
    for index, (rewards, lengths) in enumerate(zip(REWARDS, LENGTHS, strict=True)):
        group = make_group(policy, rewards, behavior, index=index, lengths=lengths, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        for rollout, answer in zip(group.rollouts, ANSWERS, strict=True):
            rollout.answer = answer
            # As an engine whose probabilities are somewhat others.
            rollout.logprobs = (-5.5 + torch.randn(len(rollout.response_ids), generator=generator)).tolist()
        groups.append(group)
    return groups


def trained(policy: Policy, spec: AlgorithmSpec, groups: list[Group], tokens: int, **context: Any):
    """Gradients by update and parameter over two updates, and what the update tells. Weights are put back."""
    gradients: dict[str, torch.Tensor] = {}
    before = {n: p.detach().clone() for n, p in policy.model.named_parameters()}

    class Recorder(MasterAdamW):
        def step(self, step: int) -> float:
            for name, master in self.masters().items():
                if master.grad is not None:
                    gradients[f"{step}/{name}"] = master.grad.clone()
                    master.data.sub_(master.grad, alpha=0.05)
                    torch.autograd.graph.increment_version(master)
                    master.grad = None
            self._publish()
            return 0.0

    try:
        result = update(
            step_context(policy, build_algorithm(spec, 40), **context),
            Recorder(policy.model, OptimizerSpec()),
            groups,
            first_update=0,
            updates=2,
            tokens_per_micro_batch=tokens,
            divergence_stride=3,
        )
    finally:
        with torch.no_grad():
            for name, parameter in policy.model.named_parameters():
                parameter.copy_(before[name])
    return gradients, result


def sizes(policy: Policy, spec: AlgorithmSpec, groups: list[Group]) -> Iterator[int]:
    """Positions of micro-batches: as many as the longest row, by which the other rows divide; and one row."""
    modes = build_algorithm(spec, 40).scored_modes(0)
    yield max(row_positions([row], policy.layout) for group in groups for row in group_rows(group, modes))
    yield 1


def assert_close(one, other, close: float = 1e-6) -> None:
    (gradients, result), (found, told) = one, other
    zero = {n: torch.zeros_like(g) for n, g in (gradients | found).items()}
    assert any(bool(g.any()) for g in gradients.values())
    for name, none in zero.items():
        expected, gradient = gradients.get(name, none), found.get(name, none)
        scale = float(expected.abs().max())
        assert float((gradient - expected).abs().max()) <= close * scale + 1e-10, name
    assert told.loss == pytest.approx(result.loss, rel=close, abs=1e-9)
    assert told.trained_tokens == result.trained_tokens
    assert told.metrics.result() == pytest.approx(result.metrics.result(), rel=1e-4, abs=1e-7)
    assert told.entropy_T.keys() == result.entropy_T.keys()
    for index, entropy_T in result.entropy_T.items():
        assert torch.allclose(told.entropy_T[index], entropy_T, rtol=1e-5, equal_nan=True)


def test_every_algorithm_is_here():
    assert {spec.type for spec in SPECS.values()} == ALGORITHMS.keys()


@pytest.mark.parametrize(
    ("name", "seed"),
    [*((name, 0) for name in SPECS), *((name, 1) for name in OTHER_SEED)],
)
def test_parts_of_groups_train_as_whole_groups_do(policy: Policy, name: str, seed: int):
    spec = SPECS[name]
    groups = groups_of(policy, spec, seed)
    whole = trained(policy, spec, groups, 10**6)
    for tokens in sizes(policy, spec, groups):
        assert_close(whole, trained(policy, spec, groups, tokens))


@pytest.mark.parametrize("layout", ["shared_prefix", "per_row"])
@pytest.mark.parametrize("name", ["grpo", "large bonus", "kl_cov", "cross rows weighed"])
def test_with_a_reference_and_an_engine_of_its_own(
    policy: Policy, reference: Policy, name: str, layout: Layout
):
    """The reference pulls groups of equal rewards too; the engine's probabilities weigh responses."""
    spec = SPECS[name].model_copy(update=REFERENCE)
    groups = groups_of(policy, spec, 0)
    whole = trained(policy, spec, groups, 10**6, reference=reference)
    assert whole[1].metrics.result()["rollout/importance_clipped"] > 0
    policy.layout = layout
    try:
        for tokens in sizes(policy, spec, groups):
            assert_close(whole, trained(policy, spec, groups, tokens, reference=reference), close=1e-5)
    finally:
        policy.layout = "shared_prefix"


@pytest.mark.parametrize("lora", [None, LoraSpec(rank=4)], ids=["full", "lora"])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_with_adapters_and_layers_computed_again(tiny_model: Path, lora: LoraSpec | None, recompute: bool):
    """With adapters the reference is the policy with these off."""
    model = ModelSpec(path=str(tiny_model), dtype="float32", gradient_checkpointing=recompute)
    policy = load_policy(model, PROMPT, lora=lora)
    policy.model.double()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)
    spec = SPECS["large bonus"].model_copy(update=REFERENCE if lora else {})
    groups = groups_of(policy, spec, 0)
    context = {"reference": policy} if lora else {}
    whole = trained(policy, spec, groups, 10**6, **context)
    for tokens in sizes(policy, spec, groups):
        assert_close(whole, trained(policy, spec, groups, tokens, **context))


def test_ratios_are_exactly_one_in_the_first_update_whatever_rounds(tiny_model: Path):
    """GSPO's clip is narrower than two passes of bfloat16 are apart; KL-Cov's penalty bends at ratio 1."""
    for spec in (Gspo(clip_low=1e-9, clip_high=1e-9), PolicySplit(clip_low=1e-9, clip_high=1e-9)):
        policy = load_policy(ModelSpec(path=str(tiny_model)), PROMPT)
        result: UpdateResult
        groups = groups_of(policy, spec, 0)
        _, result = trained(policy, spec, groups, 1)
        shares = {n: v for n, v in result.metrics.result().items() if "clipfrac_" in n}
        assert shares and set(shares.values()) == {0.0}


def test_a_group_of_one_part_stays_as_it_was_to_the_bit(policy: Policy):
    """Beside another that is divided."""
    spec = SPECS["large bonus"]
    groups = groups_of(policy, spec, 0)
    small = [replace(groups[2], index=0)]
    alone, _ = trained(policy, spec, small, 10**6)
    bound = positions_of(policy, small, tuple(Mode))
    again, _ = trained(policy, spec, small, bound)
    assert all(torch.equal(again[name], alone[name]) for name in alone)
