"""Low-rank adapters: what is trained, what is saved, what the reference is, and resuming."""

import threading
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.fixtures.groups import H, N, load_tiny_policy, make_group
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.api import train
from trainer.errors import InvalidSpec
from trainer.model.lora import merged
from trainer.model.policy import Policy, load_policy
from trainer.model.scoring import score_groups
from trainer.spec.algorithm import Grpo, PolicySplit, ReferenceKl
from trainer.spec.events import StepMetrics
from trainer.spec.model import LoraSpec, ModelSpec
from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT, Mode
from trainer.spec.run import RunSpec

RANK = 4
TARGETS = ["q_proj", "down_proj"]


def adapted(model: Path, spec: LoraSpec | None = None, dtype: str = "float32", seed: int = 0) -> Policy:
    """The tiny model with adapters whose B is not zero, as after training."""
    policy = load_policy(
        ModelSpec.model_validate({"path": str(model), "dtype": dtype}),
        DEFAULT_HIGH_ENTROPY_PROMPT,
        lora=spec or LoraSpec(rank=RANK, target_modules=TARGETS),
        seed=seed,
    )
    generator = torch.Generator().manual_seed(1)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return policy


def scores(policy: Policy) -> torch.Tensor:
    group = make_group(policy, [1, 0, 1, 0], [N, H, N, H])
    with torch.no_grad():
        (scored,) = score_groups(policy, [group], tuple(Mode))
    return torch.cat([scored[mode].logp_T for mode in Mode])


def lora_run(tiny_model: Path, folder: Path, **changes) -> RunSpec:
    changes = {"lora": LoraSpec(rank=RANK), "total_steps": 4, "validation_data": None} | changes
    return tiny_spec(tiny_model, write_rows(folder / "data.jsonl"), **changes)


def test_before_training_the_adapted_model_is_the_model(tiny_model: Path):
    policy = load_policy(
        ModelSpec(path=str(tiny_model), dtype="float32"), DEFAULT_HIGH_ENTROPY_PROMPT, lora=LoraSpec()
    )
    assert torch.equal(scores(policy), scores(load_tiny_policy(tiny_model, double=False)))
    trained = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    kinds = {name.split(".lora_")[0].rpartition(".")[2] for name in trained}
    assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all("lora_" in name for name in trained)


def test_the_seed_draws_the_adapters_and_nothing_else_does(tiny_model: Path):
    def first(seed: int) -> torch.Tensor:
        torch.rand(3)
        before = torch.random.get_rng_state()
        policy = adapted(tiny_model, seed=seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        return policy.model.get_submodule("model.layers.0.self_attn.q_proj.lora_A.default").weight

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_a_saved_model_computes_what_the_adapted_one_does(
    tiny_model: Path, tmp_path: Path, dtype: str, tolerance: float
):
    """Loaded as any model is, with W + alpha/rank * B A; and peft's own loading of the adapter."""
    policy = adapted(tiny_model, dtype=dtype)
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    tmp_path.joinpath("saved").mkdir()
    policy.save(tmp_path / "saved")
    after = dict(policy.model.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)

    weights = load_file(tmp_path / "saved/model.safetensors")
    base = load_file(tiny_model / "model.safetensors")
    assert weights.keys() == base.keys()
    for name, weight in weights.items():
        assert weight.dtype is getattr(torch, dtype)
        assert torch.equal(weight, base[name].to(weight)) == (name.split(".")[-2] not in TARGETS), name

    expected = scores(policy)
    spread = float((expected - scores(load_tiny_policy(tiny_model, double=False))).abs().max())
    plain = load_policy(
        ModelSpec.model_validate({"path": str(tmp_path / "saved"), "dtype": dtype}),
        DEFAULT_HIGH_ENTROPY_PROMPT,
    )
    assert not plain.adapted
    assert float((scores(plain) - expected).abs().max()) < tolerance < spread
    loaded = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=getattr(torch, dtype))
    theirs = PeftModel.from_pretrained(loaded, str(tmp_path / "saved/adapter"))
    ids = torch.arange(20)[None]
    with torch.no_grad():
        ours = policy.model(input_ids=ids).logits
        assert torch.allclose(
            theirs(input_ids=ids).logits, ours, rtol=1e-6, atol=1e-6 if dtype == "float32" else 0.02
        )


def test_merging_leaves_no_trace(tiny_model: Path):
    policy = adapted(tiny_model)
    expected = scores(policy)
    with pytest.raises(RuntimeError, match="no space left"), merged(policy.model):
        assert not [name for name, _ in policy.model.named_parameters() if "lora_" in name]
        raise RuntimeError("no space left")
    assert torch.equal(scores(policy), expected)


def test_the_reference_is_the_model_without_its_adapters(tiny_model: Path):
    policy = adapted(tiny_model)
    base, with_adapters = scores(load_tiny_policy(tiny_model, double=False)), scores(policy)
    with policy.as_reference():
        assert torch.equal(scores(policy), base)
    assert torch.equal(scores(policy), with_adapters)
    assert not torch.allclose(with_adapters, base, atol=1e-3)
    assert any(p.requires_grad for p in policy.model.parameters())


def test_a_run_trains_the_adapters_alone(tiny_model: Path, tmp_path: Path):
    algorithm = PolicySplit(eta=0.3, reference_kl=ReferenceKl(coefficient=0.1))
    result = train(lora_run(tiny_model, tmp_path, algorithm=algorithm), tmp_path / "run")
    assert result.checkpoint is not None
    base = load_file(tiny_model / "model.safetensors")
    after = load_file(result.checkpoint / "model.safetensors")
    changed = {name for name in base if not torch.equal(base[name], after[name])}
    assert changed == {name for name in base if "_proj" in name}
    state = load_file(tmp_path / "run/checkpoints/step-4/adapter/adapter_model.safetensors")
    assert all(tensor.abs().max() > 0 for tensor in state.values())
    metrics = {e.step: e.values for e in events_of(tmp_path / "run") if isinstance(e, StepMetrics)}
    for mode in "NH":
        distance = [metrics[step][f"train/{mode}/reference_kl"] for step in (1, 2, 3, 4)]
        assert distance[0] == 0.0
        assert all(value != 0.0 for value in distance[1:])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_stopped_run_goes_on_bit_for_bit(tiny_model: Path, tmp_path: Path, dtype: str):
    algorithm = PolicySplit(eta=0.3, reference_kl=ReferenceKl(coefficient=0.1, estimator="k2"))
    model = ModelSpec.model_validate({"path": str(tiny_model), "dtype": dtype})
    spec = lora_run(tiny_model, tmp_path, algorithm=algorithm, model=model)
    whole = train(spec, tmp_path / "whole")
    stop = threading.Event()

    def after_two(event) -> None:
        if isinstance(event, StepMetrics) and event.step == 2:
            stop.set()

    first = train(spec, tmp_path / "cut", on_event=after_two, stop=stop)
    assert (first.finished, first.step) == (False, 2)
    state = load_file(tmp_path / "cut/state/step-2/state.safetensors")
    assert all("lora_" in name for name in state)
    second = train(spec, tmp_path / "cut")
    assert (second.finished, second.step) == (True, 4)
    assert whole.checkpoint is not None and second.checkpoint is not None
    for file in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (whole.checkpoint / file).read_bytes() == (second.checkpoint / file).read_bytes(), file


def test_what_cannot_work_is_refused_by_name(tiny_model: Path, tmp_path: Path):
    for target in ("lm_head", "embed_tokens", "q_prj"):
        spec = lora_run(
            tiny_model, tmp_path, lora=LoraSpec(target_modules=["q_proj", target]), algorithm=Grpo()
        )
        with pytest.raises(InvalidSpec, match=rf"{target}.*give names from down_proj, gate_proj") as caught:
            train(spec, tmp_path / "run")
        assert caught.value.param == "lora.target_modules"
    with pytest.raises(ValidationError, match="give 0"):
        LoraSpec(dropout=0.1)
