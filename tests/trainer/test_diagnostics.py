"""Diagnostics against planted answers, and that they leave training alone."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.groups import H, N, load_tiny_policy, make_group
from tests.fixtures.models import build_tiny_model
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.algorithms import build_algorithm
from trainer.diagnostics.gradients import gradient_metrics, gradient_statistics, layer_products
from trainer.diagnostics.hidden_states import hidden_state_metrics, neutral_policy, probed_layers
from trainer.diagnostics.similarity import linear_cka, mean_cosine
from trainer.errors import InvalidSpec
from trainer.loop import Run
from trainer.model.policy import Policy
from trainer.model.scoring import score_groups
from trainer.objective.metrics import MetricSums
from trainer.spec.algorithm import Grpo, PolicySplit
from trainer.spec.events import EventWriter, StepMetrics
from trainer.spec.model import LoraSpec
from trainer.spec.modes import Mode
from trainer.spec.run import DiagnosticsSpec, OptimizerSpec, RunSpec
from trainer.steps.group_loss import Old, batch_counts, group_loss
from trainer.types import Group

REWARDS = [1.0, 0.0, 0.5, 0.0, 1.0, 0.0]
MIXED = [N, N, N, H, H, H]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- similarity -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [5, 200], ids=["fewer tokens than width", "more tokens than width"])
def test_cka_ignores_rotation_shift_and_scale_alone(tokens: int):
    x = random(tokens, 16)
    rotation = torch.linalg.qr(random(16, 16, seed=1)).Q
    assert float(linear_cka(x, x)) == pytest.approx(1.0)
    assert float(linear_cka(x, 3.0 * x @ rotation + 7.0)) == pytest.approx(1.0)
    assert linear_cka(x, x * torch.arange(1, 17) ** 2) < 0.99


def test_cka_of_independent_states_is_small_and_both_forms_agree():
    x, y = random(4000, 16), random(4000, 12, seed=1)
    assert linear_cka(x, y) < 0.01
    few_x, few_y = random(8, 16), random(8, 12, seed=1)
    centred = [z - z.mean(0) for z in (few_x, few_y)]
    cross = (centred[1].t() @ centred[0]).square().sum()
    own = [(z.t() @ z).square().sum().sqrt() for z in centred]
    assert float(linear_cka(few_x, few_y)) == pytest.approx(float(cross / (own[0] * own[1])))


def test_mean_cosine():
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    y = torch.tensor([[0.0, 2.0], [3.0, 3.0]])
    assert float(mean_cosine(x, y)) == pytest.approx(0.5)


# --- hidden states --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spread_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "spread", spread=0.3)


def test_probed_layers():
    assert [probed_layers(n) for n in (1, 2, 4, 30)] == [[1], [1, 2], [1, 2, 3, 4], [8, 15, 23, 30]]


def test_hidden_states_are_those_of_the_plain_model(spread_model: Path):
    """Against transformers' own ``output_hidden_states``, one response at a time."""
    policy = load_tiny_policy(spread_model)
    groups = [make_group(policy, REWARDS, MIXED, index=i) for i in range(2)]
    found = hidden_state_metrics(policy, groups)
    neutral = neutral_policy(policy)
    states: list[list[torch.Tensor]] = [[], [], []]
    for group in groups:
        control = neutral.prompt_ids(group.messages, H)
        for i, prompt in enumerate((group.prompt_ids[N], group.prompt_ids[H], control)):
            for rollout in group.rollouts:
                ids = torch.tensor([[*prompt, *rollout.response_ids]])
                out = policy.decoder(input_ids=ids, output_hidden_states=True).hidden_states[1]
                states[i].append(out[0, len(prompt) - 1 : -1].detach())
    normal, high, control = (torch.cat(parts) for parts in states)
    expected = {
        "diag/hidden_cos/L1": float(mean_cosine(normal, high)),
        "diag/hidden_cka/L1": float(linear_cka(normal, high)),
        "diag/hidden_cos_neutral/L1": float(mean_cosine(normal, control)),
        "diag/hidden_cka_neutral/L1": float(linear_cka(normal, control)),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert all(value < 0.9999 for value in expected.values())
    assert len(found) == 8  # two layers


def test_the_same_prompt_gives_the_same_states(spread_model: Path):
    policy = replace(load_tiny_policy(spread_model), high_entropy_prompt="")
    found = hidden_state_metrics(policy, [make_group(policy, REWARDS, MIXED)])
    assert found == pytest.approx(dict.fromkeys(found, 1.0))


@pytest.mark.parametrize("prompt", ["wander", "think of something else, then answer. " * 40])
def test_the_control_has_the_prompt_s_length(tiny_model: Path, prompt: str):
    policy = replace(load_tiny_policy(tiny_model), high_entropy_prompt=prompt)
    neutral = neutral_policy(policy)
    messages = [{"role": "user", "content": "hello"}]
    lengths = [len(p.prompt_ids(messages, H)) for p in (policy, neutral)]
    assert 0 <= lengths[1] - lengths[0] <= 16  # up to a word, in bytes
    assert neutral.prompt_ids(messages, N) == policy.prompt_ids(messages, N)


# --- gradients ------------------------------------------------------------------------------------------


def test_planted_gradients_give_their_cosines():
    a, b = random(3, 4), random(5, seed=1)
    zero = [torch.zeros_like(a), torch.zeros_like(b)]
    same = gradient_statistics(layer_products([a, b], [a, b], zero, zero, [1, 2]))
    assert same["diag/grad_cos"] == pytest.approx(1.0)
    assert same["diag/grad_cos/L1"] == same["diag/grad_cos/L2"] == pytest.approx(1.0)
    assert same["diag/grad_conflict_rate"] == 0.0
    assert same["diag/grad_bonus_ratio"] == 0.0
    assert "diag/grad_cos_bonus" not in same
    conflict = gradient_statistics(layer_products([a, b], [-2 * a, -2 * b], zero, [a / 2, b / 2], [1, 2]))
    assert conflict["diag/grad_cos"] == pytest.approx(-1.0)
    assert conflict["diag/grad_conflict_rate"] == 1.0
    half = gradient_statistics(layer_products([a, b], [a, -0.1 * b], zero, [a, 0 * b], [1, 2]))
    assert half["diag/grad_conflict_rate"] == 0.5
    # Parts of the null: (a, 0) and the rest of the sum, (2a, 0.9b) - (a, 0).
    assert half["diag/grad_conflict_rate_null"] == 0.0
    outside = gradient_statistics(layer_products([a, b], [a, -b], zero, zero, [None, 1]))
    assert "diag/grad_cos/L1" in outside and len([n for n in outside if "/L" in n]) == 1


def test_the_bonus_against_numbers():
    one, two = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    found = gradient_statistics(layer_products([one], [one + two], [-2 * one], [one], [1]))
    assert found["diag/grad_cos"] == pytest.approx(-1 / math.sqrt(2))
    assert found["diag/grad_cos_bonus"] == pytest.approx(-1.0)
    assert found["diag/grad_bonus_ratio"] == pytest.approx(2 / math.sqrt(2))
    # The rest of the null is (1, 0) + (-1, 1) - (1, 0).
    assert found["diag/grad_conflict_rate_null"] == 1.0


def probe(policy: Policy, spec: PolicySplit, groups: list[Group], step: int = 0) -> dict[str, float]:
    return gradient_metrics(
        policy,
        build_algorithm(spec),
        groups,
        step=step,
        temperature=1.0,
        generator=torch.Generator().manual_seed(0),
    )


def twin_group(policy: Policy, index: int, flip: bool) -> Group:
    """Both modes gave the same responses; the high-entropy mode's rewards are the same, or the opposite."""
    group = make_group(policy, [1.0, 0.0, 0.0], [N] * 3, index=index, lengths=[5, 4, 6])
    copies = [
        replace(r, behavior_mode=H, reward=1.0 - (r.reward or 0.0) if flip else r.reward)
        for r in group.rollouts
    ]
    return replace(group, rollouts=[*group.rollouts, *copies])


@pytest.mark.parametrize(("flip", "expected"), [(False, 1.0), (True, -1.0)])
def test_agreement_and_conflict_planted_in_the_rewards(spread_model: Path, flip: bool, expected: float):
    """With one prompt for both modes and no sharing, the gradients are equal or opposite."""
    policy = replace(load_tiny_policy(spread_model), high_entropy_prompt="")
    groups = [twin_group(policy, index, flip) for index in range(2)]
    found = probe(policy, PolicySplit(eta=0.0, sharing="none"), groups)
    cosines = {name: value for name, value in found.items() if name.startswith("diag/grad_cos")}
    assert cosines == pytest.approx(dict.fromkeys(cosines, expected))
    assert len(cosines) == 3
    assert found["diag/grad_conflict_rate"] == (1.0 if flip else 0.0)
    assert found["diag/grad_groups"] == 2


def mode_gradient(policy: Policy, spec: PolicySplit, groups: list[Group], mode: Mode) -> torch.Tensor:
    """The gradient that training takes of one mode's loss, through ``group_loss`` and ``backward``."""
    only = {"weight_normal": float(mode is N), "weight_high_entropy": float(mode is H)}
    algorithm = build_algorithm(spec.model_copy(update=only))
    plans = [algorithm.plan(group) for group in groups]
    policy.model.zero_grad()
    for plan in plans:
        (scores,) = score_groups(policy, [plan.group], tuple(Mode))
        old = {m: s.logp_T.detach() for m, s in scores.items()}
        counts = batch_counts(plans, tuple(Mode))
        group_loss(algorithm, plan, scores, Old(old), counts, 0, MetricSums()).backward()
    gradient = torch.cat([p.grad.flatten() for p in policy.model.parameters()])
    policy.model.zero_grad()
    return gradient


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize("sharing", ["both", "none"])
def test_the_probe_sees_the_gradients_that_training_takes(spread_model: Path, sharing):
    """cos(g_N, g_H) and the exact split g_H = g_accuracy + g_bonus, against the training path."""
    policy = load_tiny_policy(spread_model)
    groups = [make_group(policy, REWARDS[i:] + REWARDS[:i], MIXED, index=i) for i in range(3)]
    spec = PolicySplit(eta=0.3, sharing=sharing)
    g_n = mode_gradient(policy, spec, groups, N)
    g_h = mode_gradient(policy, spec, groups, H)
    g_accuracy = mode_gradient(policy, spec.model_copy(update={"eta": 0.0}), groups, H)
    g_bonus = g_h - g_accuracy
    found = probe(policy, spec, groups)
    assert found["diag/grad_cos"] == pytest.approx(cosine(g_n, g_h), abs=1e-6)
    assert found["diag/grad_cos_bonus"] == pytest.approx(cosine(g_n, g_bonus), abs=1e-5)
    assert found["diag/grad_bonus_ratio"] == pytest.approx(
        float(g_bonus.norm() / g_accuracy.norm()), rel=1e-5
    )
    assert found["diag/grad_bonus_ratio"] > 0.01
    assert 0.0 <= found["diag/grad_conflict_rate_null"] <= 1.0
    assert all(p.grad is None for p in policy.model.parameters())


def test_the_null_splits_rows_at_random(spread_model: Path):
    """Against the training path on one half's N rows and the other half's H rows, and on the rest."""
    policy = load_tiny_policy(spread_model)
    found, expected = [], []
    for index in range(6):
        group = make_group(policy, REWARDS, MIXED, index=index)
        algorithm = build_algorithm(PolicySplit(eta=0.3, weight_normal=1.0, weight_high_entropy=1.0))
        plan = algorithm.plan(group)
        half_G = torch.rand(6, generator=torch.Generator().manual_seed(index)) < 0.5
        parts = []
        for side in (half_G, ~half_G):
            (scores,) = score_groups(policy, [group], tuple(Mode))
            old = {mode: s.logp_T.detach() for mode, s in scores.items()}
            rows = replace(plan, trains_G={N: plan.trains_G[N] & ~side, H: plan.trains_G[H] & side})
            counts = batch_counts([plan], tuple(Mode))
            loss = group_loss(algorithm, rows, scores, Old(old), counts, 0, MetricSums())
            parts.append(
                [
                    torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
                    for layer in layers(policy)
                ]
            )
        cosines = [
            cosine(*(torch.cat([g.flatten() for g in part]) for part in both))
            for both in zip(*parts, strict=True)
        ]
        expected.append(sum(c < 0 for c in cosines) / len(cosines))
        found.append(
            gradient_metrics(
                policy,
                algorithm,
                [group],
                step=0,
                temperature=1.0,
                generator=torch.Generator().manual_seed(index),
            )["diag/grad_conflict_rate_null"]
        )
    assert found == expected
    assert len(set(found)) > 1


def layers(policy: Policy) -> list[torch.nn.Module]:
    return list(policy.decoder.layers)  # type: ignore[arg-type]


def test_a_frozen_mode_is_probed_and_equal_rewards_are_not(spread_model: Path):
    policy = load_tiny_policy(spread_model)
    group = make_group(policy, REWARDS, MIXED)
    spec = PolicySplit(eta=0.3)
    frozen = probe(policy, spec.model_copy(update={"freeze_step": 0}), [group])
    assert frozen == probe(policy, spec, [group])
    assert probe(policy, spec, [make_group(policy, [1.0] * 6, MIXED)]) == {"diag/grad_groups": 0.0}


# --- in a run -------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "data.jsonl")


def run(spec: RunSpec, run_dir: Path) -> tuple[list[StepMetrics], dict[str, torch.Tensor]]:
    with EventWriter(run_dir / "events.jsonl") as events:
        assert Run(spec, run_dir, events).run()
    metrics = [event for event in events_of(run_dir) if isinstance(event, StepMetrics)]
    return metrics, load_file(run_dir / f"checkpoints/step-{spec.total_steps}/model.safetensors")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_diagnostics_take_nothing_from_training(spread_model: Path, data: Path, tmp_path: Path, dtype: str):
    changes = {"model": {"path": str(spread_model), "dtype": dtype}, "total_steps": 3}
    on = DiagnosticsSpec(interval=1, probe_items=2, divergence_stride=1)
    off = DiagnosticsSpec(interval=0, divergence_stride=0)
    with_metrics, with_weights = run(tiny_spec(spread_model, data, diagnostics=on, **changes), tmp_path / "a")
    without, weights = run(tiny_spec(spread_model, data, diagnostics=off, **changes), tmp_path / "b")
    assert not [name for m in without for name in m.values if name.startswith(("diag/", "time/diagnostics"))]
    assert all("diag/hidden_cka/L2" in m.values and "diag/js/prefix_H" in m.values for m in with_metrics[1:])
    assert any("diag/grad_cos" in m.values for m in with_metrics)
    assert weights.keys() == with_weights.keys()
    assert all(torch.equal(weights[name], with_weights[name]) for name in weights)
    for one, other in zip(with_metrics, without, strict=True):
        shared = {name for name in other.values if name.startswith(("train/N/", "train/H/", "eval/"))}
        assert {n: one.values[n] for n in shared} == {n: other.values[n] for n in shared}


@pytest.mark.parametrize("change", [{"lora": LoraSpec(rank=2)}, {"model": {"gradient_checkpointing": True}}])
def test_probes_work_with_adapters_and_recomputed_layers(
    spread_model: Path, data: Path, tmp_path: Path, change: dict
):
    """Gradients are those of what is trained, layer by layer; they agree with those without recomputation."""
    found = []
    model = {"path": str(spread_model), "dtype": "float32"}
    for name, changes in (("with", change), ("without", {})):
        settings = {**changes, "model": model | changes.get("model", {}), "total_steps": 1}
        spec = tiny_spec(
            spread_model, data, diagnostics=DiagnosticsSpec(interval=1, probe_items=6), **settings
        )
        found.append(run(spec, tmp_path / name)[0][1].values)
    with_change, without = ({n: v for n, v in m.items() if n.startswith("diag/")} for m in found)
    assert with_change.keys() == without.keys()
    assert "diag/grad_cos/L2" in with_change
    if "model" in change:
        assert with_change == pytest.approx(without, abs=1e-4)


def test_probes_come_at_their_interval_before_the_update(tiny_model: Path, data: Path, tmp_path: Path):
    """Before steps 0 and 2 of 3; what the first step's update does shows in the second probe alone."""
    settings = {"diagnostics": DiagnosticsSpec(interval=2, which=["hidden_states"]), "total_steps": 3}
    probed = []
    for rate in (1e-3, 1e-2):
        spec = tiny_spec(tiny_model, data, optimizer=OptimizerSpec(learning_rate=rate), **settings)
        metrics, _ = run(spec, tmp_path / str(rate))
        assert not [n for m in metrics for n in m.values if n.startswith("diag/grad_")]
        name = "diag/hidden_cos/L1"
        probed.append({m.step: m.values[name] for m in metrics if name in m.values})
    slow, fast = probed
    assert slow.keys() == fast.keys() == {1, 3}
    assert slow[1] == fast[1]
    assert slow[3] != fast[3]


def test_one_mode_has_no_probes(tiny_model: Path, data: Path, tmp_path: Path):
    spec = tiny_spec(tiny_model, data, Grpo(), diagnostics=DiagnosticsSpec(interval=1), total_steps=1)
    metrics, _ = run(spec, tmp_path / "run")
    assert not [name for m in metrics for name in m.values if name.startswith(("diag/", "time/diagnostics"))]


def test_a_probe_prompt_that_is_too_long_is_refused_at_once(tiny_model: Path, data: Path, tmp_path: Path):
    spec = tiny_spec(tiny_model, data)
    spec = spec.model_copy(update={"rollout": spec.rollout.model_copy(update={"max_prompt_tokens": 30})})
    with (
        EventWriter(tmp_path / "events.jsonl") as events,
        pytest.raises(InvalidSpec, match=r"more than 30 tokens, rollout.max_prompt_tokens: line 1"),
    ):
        Run(spec, tmp_path, events)
