"""What a run would take of its device: what is certain its parts hold, what cannot fit is refused."""

import inspect
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch import nn

from tests.fixtures.runs import tiny_spec, write_rows
from trainer.api import train
from trainer.errors import InvalidSpec
from trainer.model import logprobs, moments
from trainer.model import rows as rows_of_models
from trainer.model.dense_layers import FORMS
from trainer.model.optim import MasterAdamW
from trainer.model.policy import load_policy
from trainer.rollout import prefix_cache, vllm_engine
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.spec import memory_plan as plans
from trainer.spec.algorithm import Grpo, PolicySplit, ReferenceKl
from trainer.spec.memory_plan import (
    Device,
    Line,
    MemoryPlan,
    doubt,
    memory_options,
    memory_plan,
    micro_batch_positions,
    refusal,
)
from trainer.spec.model import LoraSpec, ModelSpec
from trainer.spec.model_size import DENSE_FORMS, ModelSize, model_size
from trainer.spec.run import OptimizerSpec, RolloutSpec, RunSpec
from trainer.steps import parts
from trainer.system import memory


def spec_of(folder: Path, dtype: str = "float32", **changes: Any) -> RunSpec:
    model = ModelSpec.model_validate({"path": str(folder), "dtype": dtype})
    return tiny_spec(folder, Path("rows.jsonl"), model=model, **changes)


def held(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in {id(t): t for t in tensors}.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [None, LoraSpec(rank=4), LoraSpec(rank=2, target_modules=["q_proj"])])
@pytest.mark.parametrize("moments_as", ["float32", "int8"])
def test_what_is_certain_is_what_the_model_and_its_optimizer_hold(
    tiny_model: Path, dtype: str, lora: LoraSpec | None, moments_as: Literal["float32", "int8"]
):
    spec = spec_of(tiny_model, dtype, lora=lora, optimizer=OptimizerSpec(moments=moments_as))
    policy = load_policy(spec.model, "", lora=lora, seed=0)
    optimizer = MasterAdamW(policy.model, spec.optimizer)
    trained = [p for p in policy.model.parameters() if p.requires_grad]
    sum(p.float().sum() for p in trained).backward()  # type: ignore[union-attr]
    masters = list(optimizer.masters().values())
    gradients = [master.grad for master in masters if master.grad is not None]
    size = held(gradients)
    optimizer.step(0)
    state = optimizer.state_tensors()
    moments = [value for name, value in state.items() if name.startswith("exp_avg")]
    expected = held([*policy.model.parameters(), *masters]) + size + held(moments)
    plan = memory_plan(spec, model_size(tiny_model), Device())
    assert plan.certain_bytes == expected
    assert plan.peak_bytes > expected


def test_a_model_s_size_is_that_of_its_modules(tiny_model: Path):
    size = model_size(tiny_model)
    model = load_policy(ModelSpec(path=str(tiny_model), dtype="float32"), "").model
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not model.lm_head]
    assert size.parameters == sum(p.numel() for p in model.parameters())
    assert sorted(shape for _, *shape in size.linear) == sorted(list(m.weight.shape) for m in layers)
    assert size.output == model.lm_head.weight.numel()
    assert size.exact


def test_ranks_divide_what_is_sharded(tiny_model: Path):
    size, device = model_size(tiny_model), Device(cpu=False)
    alone = memory_plan(spec_of(tiny_model), size, device)
    replicated = memory_plan(spec_of(tiny_model), size, device, ranks=4)
    sharded = memory_plan(spec_of(tiny_model), size, device, ranks=4, sharded=True)
    assert replicated == alone
    assert sharded.certain_bytes == alone.certain_bytes // 4
    # Float32 parts of the trained weights are their masters; what is frozen stays as it is.
    rounded, numbers = spec_of(tiny_model, "bfloat16"), size.parameters
    assert memory_plan(rounded, size, device, 4, sharded=True).certain_bytes == 4 * numbers
    adapted = rounded.model_copy(update={"lora": LoraSpec(rank=1)})
    lines = {one.what: one.bytes for one in memory_plan(adapted, size, device, 4, sharded=True).lines}
    adapters = lines["moments"] // 2
    assert lines["weights"] == numbers // 2 + adapters and lines["masters"] == 0


def test_only_a_run_that_certainly_does_not_fit_is_refused(tiny_model: Path):
    spec = spec_of(tiny_model)
    plan = memory_plan(spec, model_size(tiny_model), Device())
    enough = Device(memory_bytes=plan.certain_bytes)
    few = Device(memory_bytes=plan.certain_bytes - 1)
    assert refusal(plan, enough) is None and refusal(plan, Device()) is None
    assert (said := doubt(plan, enough)) is not None and "tokens_per_micro_batch" in said
    assert doubt(plan, Device(memory_bytes=plan.peak_bytes)) is None
    problem = refusal(plan, few, memory_options(spec, model_size(tiny_model), few))
    assert problem is not None
    for what in ("at least", "host has", "weights", "moments", "gradients (update)", "lora"):
        assert what in problem
    assert "GPU has" in str(refusal(plan, replace(few, cpu=False)))
    # Of a model that a run may load a part of, nothing is certain.
    unknown = memory_plan(spec, replace(model_size(tiny_model), exact=False), few)
    assert unknown.certain_bytes == 0 and refusal(unknown, few) is None


@pytest.mark.parametrize("kept", ["float32", "int8"])
def test_moments_on_the_host_are_not_the_gpu_s(tiny_model: Path, kept: Literal["float32", "int8"]):
    size = model_size(tiny_model)

    def lines(offload: bool, cpu: bool) -> dict[tuple[str, str], int]:
        spec = spec_of(tiny_model, optimizer=OptimizerSpec(moments=kept, offload=offload))
        plan = memory_plan(spec, size, Device(cpu=cpu))
        assert plan.certain_bytes == sum(one.bytes for one in plan.lines if one.certain)
        found = {(one.what, one.phase): one.bytes for one in plan.lines}
        return found | {("certain", ""): plan.certain_bytes, ("peak", ""): plan.peak_bytes}

    there, away = lines(offload=False, cpu=False), lines(offload=True, cpu=False)
    kept_bytes = there["moments", "always"]
    assert away["moments", "host"] == kept_bytes and ("moments", "always") not in away
    assert there["certain", ""] - away["certain", ""] == kept_bytes
    in_use = away["moments in use", "update"]
    assert in_use == plans.IN_USE * size.parameters  # a tiny model's are less than a slice
    assert there["peak", ""] - away["peak", ""] >= kept_bytes - in_use
    # On a CPU nothing is moved.
    assert lines(offload=True, cpu=True) == lines(offload=False, cpu=True)


def test_a_refusal_names_the_options_with_which_the_run_would_fit(tiny_model: Path):
    spec, size = spec_of(tiny_model), model_size(tiny_model)

    def told(has: int, spec: RunSpec = spec, cpu: bool = False) -> str:
        device = Device(cpu=cpu, memory_bytes=has)
        options = memory_options(spec, size, device)
        return str(refusal(memory_plan(spec, size, device), device, options))

    numbers = size.parameters
    offload, eight, adapters = (
        f"{name} needs"
        for name in ("optimizer.offload true", 'optimizer.moments "int8"', f"lora (rank {LoraSpec().rank})")
    )
    # Sixteen bytes a weight, 8 without the moments, a little more than 10 with them in eight bits.
    said = told(16 * numbers - 1)
    assert offload in said and eight in said and adapters in said
    said = told(9 * numbers)
    assert offload in said and eight not in said
    said = told(8 * numbers - 1)
    assert offload not in said and eight not in said
    said = told(16 * numbers - 1, cpu=True)
    assert offload not in said and eight in said
    none = told(numbers)
    assert "give a smaller model, or more GPUs" in none and "one of these" not in none
    # What is chosen already is not named.
    chosen = spec.model_copy(update={"optimizer": OptimizerSpec(moments="int8")})
    said = told(10 * numbers, chosen)
    assert offload in said and eight not in said


def test_phases_follow_one_another():
    lines = (
        *(Line("a", 5), Line("b", 3, "sampling"), Line("c", 2, "update"), Line("d", 2, "update")),
        Line("e", 100, "host"),
    )
    assert MemoryPlan(lines).peak_bytes == 9


def test_options_move_what_they_should(tiny_model: Path):
    size = model_size(tiny_model)

    def of(what: str, spec: RunSpec, device: Device = Device(cpu=False)) -> int:
        return sum(line.bytes for line in memory_plan(spec, size, device).lines if line.what == what)

    plain = spec_of(tiny_model, algorithm=Grpo())
    again = plain.model.model_copy(update={"gradient_checkpointing": True})
    assert of("activations", plain.model_copy(update={"model": again})) < of("activations", plain)
    assert of("reference", plain) == 0
    referred = spec_of(tiny_model, algorithm=Grpo(reference_kl=ReferenceKl(coefficient=0.1)))
    assert of("reference", referred) == of("weights", referred)
    assert of("reference", referred.model_copy(update={"lora": LoraSpec()})) == 0
    vllm = spec_of(tiny_model, rollout=RolloutSpec(engine="vllm"))
    assert of("vLLM", vllm, Device(cpu=False, memory_bytes=1000)) == 400
    assert of("keys and values", vllm) == 0 < of("keys and values", plain)


def test_layers_of_llama_s_form_keep_less_on_a_cpu(tiny_model: Path):
    """Its forms are those of the trainer; elsewhere, and of other models, modules compute and keep more."""
    assert {f"{form}decoderlayer" for form in DENSE_FORMS} == {form.lower() for form in FORMS}
    size, spec = model_size(tiny_model), spec_of(tiny_model, "bfloat16", algorithm=Grpo())

    def activations(size: ModelSize, device: Device) -> int:
        return {one.what: one.bytes for one in memory_plan(spec, size, device).lines}["activations"]

    assert size.dense
    dense, modules = activations(size, Device()), activations(replace(size, dense=False), Device())
    assert dense < modules == activations(size, Device(cpu=False))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_keep_their_own_outputs(tiny_model: Path, dtype: str):
    size, number = model_size(tiny_model), 4 if dtype == "float32" else 2
    plain = spec_of(tiny_model, dtype, algorithm=Grpo())
    positions = micro_batch_positions(plain)

    def of(lora: LoraSpec | None, device: Device = Device()) -> dict[str, int]:
        plan = memory_plan(plain.model_copy(update={"lora": lora}), size, device)
        return {one.what: one.bytes for one in plan.lines if one.phase == "update"}

    everything, whole, part = of(None), of(LoraSpec(rank=8)), of(LoraSpec(rank=8, target_modules=["q_proj"]))
    each = {"whole": 7 * 8, "part": 8}
    for name, lines in {"whole": whole, "part": part}.items():
        more = lines["activations"] - everything["activations"]
        assert more == positions * size.layers * number * (each[name] + size.inner)
        assert lines["outputs of a layer with adapters"] == 3 * positions * number * size.inner
        assert lines["free pieces of the heap"] == int(plans.HEAP_PIECES * lines["activations"])
    assert "free pieces of the heap" not in everything
    assert of(LoraSpec(), Device(cpu=False))["free pieces of the heap"] == 0


def test_positions_are_those_of_the_largest_micro_batch(tiny_model: Path):
    def of(tokens: int | None, samples: int, algorithm: Grpo | PolicySplit) -> int:
        rollout = RolloutSpec(
            prompts_per_step=3, samples_per_prompt=samples, max_prompt_tokens=100, max_response_tokens=900
        )
        optimizer = OptimizerSpec(tokens_per_micro_batch=tokens)
        return micro_batch_positions(
            spec_of(tiny_model, rollout=rollout, optimizer=optimizer, algorithm=algorithm)
        )

    assert of(None, 2, Grpo()) == 4096  # two groups of 1,900 and part of the third
    assert of(None, 8, Grpo()) == 100 + 8 * 900
    assert of(None, 8, PolicySplit()) == 2 * (100 + 8 * 900)
    assert of(None, 16, PolicySplit()) == 16384
    assert of(2000, 8, Grpo()) == 2000
    assert of(500, 8, Grpo()) == 1000  # a row is the least


@pytest.mark.parametrize("memory_bytes", [None, 1 << 20, 1 << 30, 139 << 30])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_take_what_their_computation_allows_itself(
    tiny_model: Path, dtype: str, memory_bytes: int | None
):
    """On a GPU shares of its memory, or less where a micro-batch has fewer positions."""
    size, spec = model_size(tiny_model), spec_of(tiny_model, dtype, algorithm=Grpo())
    device = Device(cpu=memory_bytes is None, memory_bytes=memory_bytes)
    lines = {one.what: one.bytes for one in memory_plan(spec, size, device).lines}
    cost = logprobs.Cost(logprobs.CHUNK_TOKENS, logprobs.KEPT_BYTES)
    positions = micro_batch_positions(spec)
    row = size.vocabulary * (4 if dtype == "float32" else 2)
    pieces = plans.LOGITS_AT_ONCE * 4 * size.vocabulary * min(logprobs.CACHED_TOKENS, positions)
    at_once = pieces + row * min(cost.chunk, positions)
    if memory_bytes is not None:
        cost = logprobs.Cost.on(memory_bytes, size.vocabulary)
        at_once = logprobs.CHUNK_COPIES * 4 * size.vocabulary * min(cost.chunk, positions)
    assert lines["logits of a chunk"] == at_once
    assert lines["kept probabilities"] == row * min(positions, cost.kept_bytes // row)
    if memory_bytes == 1 << 20:  # so small that both are bounded by it
        assert cost.chunk < positions and cost.kept_bytes < positions * row


def test_the_trainer_s_sizes_are_those_of_the_plan():
    rows = inspect.signature(TransformersEngine).parameters["max_batch"].default
    assert rows == plans.ROWS_AT_ONCE and plans.CACHE_GROWTH == prefix_cache.GROWTH
    assert plans.BESIDE_SHARE == vllm_engine.BESIDE_SHARE
    assert (plans.SLICE, plans.SLICE_ON_CPU) == (moments.SLICE, moments.SLICE_ON_CPU)
    assert plans.MICRO_BATCH_TOKENS == parts.MICRO_BATCH_TOKENS
    assert plans.LARGEST_MICRO_BATCH_TOKENS == rows_of_models.LARGEST_MICRO_BATCH_TOKENS
    for name in (
        "CHUNK_TOKENS",
        "CACHED_TOKENS",
        "KEPT_BYTES",
        "DEVICE_SHARE",
        "CHUNK_COPIES",
        "LEAST_CHUNK",
    ):
        assert getattr(plans, name) == getattr(logprobs, name)


def test_a_run_that_cannot_fit_ends_before_its_model_is_loaded(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(total=1000))
    monkeypatch.setattr(memory.psutil, "swap_memory", lambda: SimpleNamespace(total=0))
    spec = tiny_spec(tiny_model, write_rows(tmp_path / "rows.jsonl"))
    with pytest.raises(InvalidSpec, match=r"at least .*, but the host has 0") as refused:
        train(spec, tmp_path / "run")
    assert refused.value.param == "model"
