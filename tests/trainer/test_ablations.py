"""The shipped ablations: all parse, as a run and as an API request, run a step, and do what they say."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from app.jobs.methods import Reinforcement
from app.jobs.resolution import resolve
from app.jobs.schemas import CreateJob
from app.models.catalog import Weights
from tests.fixtures.groups import H, N, load_tiny_policy, make_group
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.ablations import ablation_names, load_ablation
from trainer.algorithms import build_algorithm
from trainer.errors import InvalidSpec
from trainer.loop import Run
from trainer.spec.algorithm import Grpo, PolicySplit
from trainer.spec.events import CheckpointSaved, EventWriter, Finished, Rollouts, StepMetrics
from trainer.spec.manifest import read_manifest
from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT, NEUTRAL_PROMPT, Mode
from trainer.spec.run import OptimizerSpec, RunSpec

NAMES = {
    *("grpo", "grpo_2x", "policy_split", "freeze_loss", "freeze_full", "hidden_freeze", "no_prompt"),
    *("neutral_prompt", "no_share", "no_share_pool", "h_to_n", "n_to_h", "prompt_only", "prompt_inference"),
    *("single_entropy", "no_kl", "eta_normal_plus", "eta_normal_minus", "clip_order_outside"),
    "cross_importance_truncated",
}
GRADER = {"type": "string_check", "input": "{{sample.output_text}}", "reference": "x"}
CHANGED = {"eta": 0.2, "kappa": 3.0, "clip_high": 0.28, "aggregation": "sequence_sum"}
"""A compared run that has settings of its own."""
REWARDS = [1.0, 0.0, 0.5, 0.0]


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> RunSpec:
    data = write_rows(tmp_path / "data.jsonl")
    algorithm = PolicySplit.model_validate(CHANGED)
    return tiny_spec(tiny_model, data, algorithm, total_steps=2, optimizer=OptimizerSpec(learning_rate=1e-4))


def policy_split(name: str, total_steps: int = 100) -> PolicySplit:
    """The ablation's algorithm, laid over the defaults."""
    request = load_ablation(name, total_steps).reinforcement({"grader": GRADER})
    algorithm = Reinforcement.model_validate(request).algorithm
    assert isinstance(algorithm, PolicySplit)
    return algorithm


def run(spec: RunSpec, run_dir: Path) -> list:
    with EventWriter(run_dir / "events.jsonl") as events:
        assert Run(spec, run_dir, events).run()
    return events_of(run_dir)


def test_the_list_is_complete():
    assert set(ablation_names()) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_parses_as_request_and_as_run(name: str, base: RunSpec):
    """And both say the same; what the ablation does not name stays the compared run's."""
    ablation = load_ablation(name, base.total_steps)
    assert ablation.description
    spec = ablation.run_spec(base)
    request = Reinforcement.model_validate(
        ablation.reinforcement({"grader": GRADER, "algorithm": {"type": "policy_split", **CHANGED}})
    )
    assert request.algorithm == spec.algorithm
    assert request.high_entropy_prompt == spec.high_entropy_prompt
    assert (request.budget.steps is None) == (spec.total_steps == base.total_steps)
    assert request.optimizer.updates_per_batch == spec.optimizer.updates_per_batch
    assert spec.optimizer.learning_rate == 1e-4
    assert spec.rollout == base.rollout
    kept = ("clip_low", "clip_high", "aggregation", "reference_kl")
    assert all(getattr(spec.algorithm, field) == getattr(base.algorithm, field) for field in kept)
    if isinstance(spec.algorithm, PolicySplit):
        assert spec.algorithm.kappa == 3.0


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_is_a_job_that_the_service_takes(name: str, base: RunSpec):
    """A whole request, resolved to what the trainer would get."""
    ablation = load_ablation(name, 40)
    mine = {"grader": GRADER, "budget": {"steps": 40}}
    request = {"type": "reinforcement", "reinforcement": ablation.reinforcement(mine)}
    job = CreateJob.model_validate({"model": "m", "training_file": "file-1", "method": request})
    resolved = resolve(
        job,
        job_id="ftjob-1",
        model=Weights(base.model.path),
        training=base.training_data,
        training_rows=8,
        validation=base.validation_data,
        seed=0,
    )
    expected = ablation.run_spec(base.model_copy(update={"algorithm": PolicySplit(), "total_steps": 40}))
    assert resolved.run_spec.algorithm == expected.algorithm
    assert resolved.run_spec.total_steps == expected.total_steps
    assert resolved.run_spec.high_entropy_prompt == expected.high_entropy_prompt
    assert resolved.run_spec.optimizer.updates_per_batch == expected.optimizer.updates_per_batch


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_runs_a_step(name: str, base: RunSpec, tmp_path: Path):
    spec = load_ablation(name, 1).run_spec(base.model_copy(update={"total_steps": 1}))
    events = run(spec, tmp_path / "run")
    (finished,) = [e for e in events if isinstance(e, Finished)]
    assert finished.step == spec.total_steps
    read_manifest(tmp_path / f"run/checkpoints/step-{spec.total_steps}", verify=True)


def test_a_request_without_an_algorithm_is_policy_split():
    assert policy_split("policy_split") == PolicySplit()
    assert load_ablation("policy_split", 10).reinforcement() == {"algorithm": {"type": "policy_split"}}


def test_grpo_differs_from_policy_split_in_the_method_alone(base: RunSpec):
    once, twice = (load_ablation(name, 2).run_spec(base) for name in ("grpo", "grpo_2x"))
    assert isinstance(once.algorithm, Grpo) and once.algorithm == twice.algorithm
    assert (once.optimizer.updates_per_batch, twice.optimizer.updates_per_batch) == (1, 2)
    assert once.model_copy(update={"algorithm": base.algorithm}) == base


def test_grpo_2x_trains_as_many_tokens_as_policy_split_a_sample(base: RunSpec, tmp_path: Path):
    for name in ("grpo_2x", "policy_split"):
        events = run(load_ablation(name, 1).run_spec(base), tmp_path / name)
        for values in [e.values for e in events if isinstance(e, StepMetrics) and e.step]:
            assert values["train/tokens_trained"] == 2 * values["train/tokens_generated"]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("freeze_loss", 50),
        ("freeze_loss@25%", 25),
        ("freeze_full@120", None),
        ("freeze_full@7", 7),
        ("hidden_freeze@0%", 0),
        ("hidden_freeze@100%", 100),
        ("freeze_loss@", None),
        ("freeze_loss@-1", None),
        ("freeze_loss@half", None),
        ("grpo@50%", None),
        ("nothing", None),
        ("../spec", None),
    ],
)
def test_the_moment_of_the_freeze(name: str, step: int | None):
    if step is None:
        with pytest.raises(InvalidSpec, match=r"ablation|freeze"):
            load_ablation(name, 100)
    else:
        assert policy_split(name).freeze_step == step


@pytest.mark.parametrize(
    ("name", "weights", "samples"),
    [
        ("freeze_loss", {N: 0.5, H: 0.0}, {N: 4, H: 4}),
        ("freeze_full", {N: 0.5, H: 0.0}, {N: 8, H: 0}),
        ("hidden_freeze", {N: 0.0, H: 0.5}, {N: 4, H: 4}),
    ],
)
def test_freezes_change_weights_and_samples_from_the_step_on(name: str, weights, samples):
    algorithm = build_algorithm(policy_split(name))
    assert algorithm.mode_weights(49) == {N: 0.5, H: 0.5}
    assert algorithm.samples(49, 8) == {N: 4, H: 4}
    assert algorithm.mode_weights(50) == algorithm.mode_weights(99) == weights
    assert algorithm.samples(50, 8) == algorithm.samples(99, 8) == samples


def test_freezing_normal_mode_can_stop_its_sampling_as_well():
    spec = PolicySplit(freeze_step=1, freeze_mode="normal", freeze_sampling=True)
    assert build_algorithm(spec).samples(0, 8) == {N: 4, H: 4}
    assert build_algorithm(spec).samples(1, 8) == {N: 0, H: 8}


def test_freeze_full_samples_normal_mode_alone_after_the_step(base: RunSpec, tmp_path: Path):
    events = run(load_ablation("freeze_full@1", 2).run_spec(base), tmp_path / "run")
    modes = {e.step: {r.mode for r in e.rollouts} for e in events if isinstance(e, Rollouts)}
    assert modes == {1: set(Mode), 2: {N}}


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("policy_split", {"Q1", "Q2", "Q3", "Q4"}),
        ("h_to_n", {"Q1", "Q2", "Q3"}),
        ("n_to_h", {"Q1", "Q2", "Q4"}),
        ("no_share", {"Q1", "Q2"}),
        ("no_share_pool", {"Q1", "Q2"}),
    ],
)
def test_sharing_trains_the_rows_it_names(tiny_model: Path, name: str, rows: set[str]):
    names = {(N, N): "Q1", (H, H): "Q2", (N, H): "Q3", (H, N): "Q4"}
    group = make_group(load_tiny_policy(tiny_model), REWARDS, [N, N, H, H])
    plan = build_algorithm(policy_split(name)).plan(group)
    found = {
        names[prompt, rollout.behavior_mode]
        for prompt in Mode
        for rollout, trains in zip(group.rollouts, plan.trains_G[prompt].tolist(), strict=True)
        if trains
    }
    assert found == rows


def test_the_two_ways_of_not_sharing_differ_in_the_baseline(tiny_model: Path):
    group = make_group(load_tiny_policy(tiny_model), REWARDS, [N, N, H, H])
    pooled = build_algorithm(policy_split("no_share_pool")).plan(group).advantage_G[N]
    alone = build_algorithm(policy_split("no_share")).plan(group).advantage_G[N]
    own = torch.tensor(REWARDS[:2], dtype=torch.float64)
    assert alone[:2].tolist() == pytest.approx(((own - 0.5) / (0.5**0.5 + 1e-6)).tolist())
    assert pooled[:2].tolist() != pytest.approx(alone[:2].tolist())


def test_single_entropy_is_one_mode_with_the_runs_own_bonus(base: RunSpec, tmp_path: Path):
    spec = load_ablation("single_entropy", 2).run_spec(base)
    assert isinstance(spec.algorithm, PolicySplit)
    algorithm = build_algorithm(spec.algorithm)
    assert (spec.algorithm.eta_normal, policy_split("single_entropy").eta_normal) == (0.2, 0.03)
    assert algorithm.samples(0, 8) == {N: 8, H: 0}
    assert algorithm.mode_weights(0) == {N: 1.0, H: 0.0}
    assert algorithm.scored_modes(0) == (N,)
    values = [e.values for e in run(spec, tmp_path / "run") if isinstance(e, StepMetrics)][-1]
    assert values["train/N/bonus_abs"] > 0
    assert not [name for name in values if "/H/" in name]


def test_settings_of_the_other_ablations(base: RunSpec):
    def changed(name: str) -> dict:
        found, usual = policy_split(name).model_dump(), PolicySplit().model_dump()
        return {field: value for field, value in found.items() if value != usual[field]}

    assert changed("prompt_only") == {"eta": 0.0}
    assert changed("no_kl") == {"alpha": 1.0}
    assert changed("eta_normal_plus") == {"eta_normal": 0.03}
    assert changed("eta_normal_minus") == {"eta_normal": -0.03}
    assert changed("clip_order_outside") == {"clip_order": "outside"}
    assert changed("cross_importance_truncated") == {"cross_importance": "truncated"}
    for name in ("no_prompt", "neutral_prompt", "policy_split", "prompt_inference"):
        assert not changed(name)
    assert load_ablation("no_prompt", 2).run_spec(base).high_entropy_prompt == ""
    assert load_ablation("neutral_prompt", 2).run_spec(base).high_entropy_prompt == NEUTRAL_PROMPT


def test_the_neutral_prompt_is_as_long_as_the_default_one(tiny_model: Path):
    """In words and in the tokens of two tokenizers: bytes here, 62 of SmolLM2's (``trainer.spec.modes``)."""
    tokenizer = load_tiny_policy(tiny_model).tokenizer
    assert len(NEUTRAL_PROMPT.split()) == len(DEFAULT_HIGH_ENTROPY_PROMPT.split())
    assert len(tokenizer(NEUTRAL_PROMPT)["input_ids"]) == len(
        tokenizer(DEFAULT_HIGH_ENTROPY_PROMPT)["input_ids"]
    )
    asked = {"explore", "different", "divers", "angle", "unusual", "creativ", "think", "precise", "wide"}
    assert not [word for word in asked if word in NEUTRAL_PROMPT.lower()]


def test_prompt_inference_evaluates_the_base_and_leaves_it_to_be_served(base: RunSpec, tmp_path: Path):
    spec = load_ablation("prompt_inference", 2).run_spec(base)
    events = run(spec, tmp_path / "run")
    (metrics,) = [e for e in events if isinstance(e, StepMetrics)]
    assert metrics.step == 0
    assert {"eval/N/reward", "eval/H/reward"} <= metrics.values.keys()
    (saved,) = [e for e in events if isinstance(e, CheckpointSaved)]
    assert (saved.step, saved.metrics) == (0, metrics.values)
    folder = tmp_path / "run/checkpoints/step-0"
    assert read_manifest(folder, verify=True).high_entropy_prompt == spec.high_entropy_prompt
    before, after = (load_file(f / "model.safetensors") for f in (Path(base.model.path), folder))
    assert all(torch.equal(before[name], after[name]) for name in before)
    # Done again after it was killed, it does not save twice.
    with EventWriter(tmp_path / "run/again.jsonl") as writer:
        assert Run(spec, tmp_path / "run", writer).run()
    assert len([e for e in events_of(tmp_path / "run", "again.jsonl") if isinstance(e, CheckpointSaved)]) == 1


def test_epochs_make_way_for_the_steps_of_an_evaluation_only_run():
    request = {"grader": GRADER, "hyperparameters": {"n_epochs": 2, "batch_size": 4}}
    merged = load_ablation("prompt_inference", 2).reinforcement(request)
    assert merged["hyperparameters"] == {"batch_size": 4}
    assert merged["budget"] == {"steps": 0}
    assert request["hyperparameters"] == {"n_epochs": 2, "batch_size": 4}


def test_settings_that_do_not_fit_are_refused_by_name(base: RunSpec):
    with pytest.raises(InvalidSpec, match=r"no_share.*no_such_option"):
        load_ablation("no_share", 2).reinforcement(
            {"algorithm": {"type": "policy_split", "no_such_option": 1}}
        )
    odd = base.model_copy(
        update={"algorithm": Grpo(), "rollout": base.rollout.model_copy(update={"samples_per_prompt": 3})}
    )
    with pytest.raises(InvalidSpec, match=r"policy_split.*samples_per_prompt is 3"):
        load_ablation("policy_split", 2).run_spec(odd)


def test_loading_needs_no_torch():
    code = (
        "import sys, trainer.ablations as a; a.load_ablation('no_share', 9); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
