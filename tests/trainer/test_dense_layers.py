"""Layers of Llama's form in few operations: values and gradients of transformers' modules, in less memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from tests.fixtures.architectures import build_architecture
from trainer.model.attention import Heads, Trees
from trainer.model.dense_layers import GATED, DenseLayer, _Norm
from trainer.model.packed_linear import applied
from trainer.model.packing import pack
from trainer.model.policy import Policy, load_policy
from trainer.model.rotation import Rotation
from trainer.model.rows import Row
from trainer.model.scoring import score_rows
from trainer.model.trees import Tree
from trainer.rollout.engine import SampleRequest
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.spec.model import LoraSpec, ModelSpec

CLOSE = 2e-5
"""Relative to the largest number of each tensor, float32."""
ROWS = [
    Row(tuple(range(30, 30 + prompt)), tuple(range(60, 60 + response)))
    for prompt, response in ((9, 12), (9, 3), (9, 12), (17, 5), (17, 1))
]


def loaded(folder: Path, name: str, **options: object) -> Policy:
    spec = ModelSpec.model_validate(
        {"path": str(build_architecture(folder, name)), "dtype": "float32"} | options
    )
    return load_policy(spec, "Be bold.")


def sped_up(policy: Policy) -> list[DenseLayer]:
    forwards = [module.forward for module in policy.decoder.layers]  # type: ignore[union-attr]
    return [forward for forward in forwards if isinstance(forward, DenseLayer)]


@contextmanager
def modules_alone(policy: Policy) -> Iterator[None]:
    """The slow reference: within the block transformers' own layers compute, with the same context."""
    layers = [layer for layer in policy.decoder.layers if isinstance(layer.forward, DenseLayer)]  # type: ignore[union-attr]
    fast = [layer.forward for layer in layers]
    for layer, forward in zip(layers, fast, strict=True):
        layer.forward = forward.modules
    yield
    for layer, forward in zip(layers, fast, strict=True):
        layer.forward = forward


def trained(policy: Policy) -> dict[str, Tensor]:
    """The hidden states, log-probabilities and entropies of ``ROWS``, and all gradients of a loss of them."""
    scores = score_rows(policy, ROWS)
    signs = torch.linspace(-1.0, 1.0, len(scores.logp_T))
    (scores.logp_T @ signs + 0.1 * scores.entropy_T @ signs.flip(0)).backward()
    found = {n: p.grad for n, p in policy.model.named_parameters() if p.grad is not None}
    policy.model.zero_grad()
    found |= {"hidden": scores.hidden_TD, "logp": scores.logp_T, "entropy": scores.entropy_T}
    return {name: tensor.detach().float() for name, tensor in found.items()}


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "llama-untied"])
def test_values_and_gradients_are_those_of_the_modules(tmp_path: Path, name: str):
    policy = loaded(tmp_path, name)
    assert len(sped_up(policy)) == 3
    fast = trained(policy)
    with modules_alone(policy):
        slow = trained(policy)
    same(fast, slow)
    assert not torch.equal(fast["logp"], slow["logp"]), "the same operations were compared with themselves"


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_bfloat16_is_as_close_to_float32_as_the_modules_are(tmp_path: Path, name: str):
    policy = loaded(tmp_path, name, dtype="bfloat16")
    wide = loaded(tmp_path, name)
    wide.model.load_state_dict({n: tensor.float() for n, tensor in policy.model.state_dict().items()})
    exact, fast = trained(wide), trained(policy)
    with modules_alone(policy):
        slow = trained(policy)
    off_fast, off_slow = (
        {n: float((found[n] - exact[n]).norm() / exact[n].norm()) for n in exact} for found in (fast, slow)
    )
    assert max(off_fast.values()) <= 1.25 * max(off_slow.values())
    assert sum(off_fast.values()) <= 1.05 * sum(off_slow.values())


def same(fast: dict[str, Tensor], slow: dict[str, Tensor]) -> None:
    assert fast.keys() == slow.keys()
    for name, expected in slow.items():
        scale = float(expected.abs().max())
        assert scale > 0 and float((fast[name] - expected).abs().max()) <= CLOSE * scale, name


def test_biases_train(tmp_path: Path):
    """Of Qwen2, whose three products with a bias are one here."""
    policy = loaded(tmp_path, "qwen2")
    assert {"q_proj", "k_proj", "v_proj"} == {
        name.split(".")[-2] for name in trained(policy) if name.endswith("proj.bias")
    }


@pytest.mark.parametrize("recomputed", [False, True])
def test_adapters_and_recomputation(tmp_path: Path, recomputed: bool):
    path = build_architecture(tmp_path, "llama")
    spec = ModelSpec(path=str(path), dtype="float32", gradient_checkpointing=recomputed)
    policy = load_policy(spec, "Be bold.", lora=LoraSpec(rank=4))
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    plain = load_policy(spec.model_copy(update={"gradient_checkpointing": False}), "", lora=LoraSpec(rank=4))
    plain.model.load_state_dict(policy.model.state_dict())
    fast = trained(policy)
    with modules_alone(plain):
        slow = trained(plain)
    assert any("lora_A" in name for name in fast)
    same(fast, slow)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_pass_without_gradient_has_the_same_bits(tmp_path: Path, dtype: str):
    """The divergence from a reference with equal weights is exactly zero."""
    policy = loaded(tmp_path, "qwen3", dtype=dtype)
    with torch.no_grad():
        without = score_rows(policy, ROWS).logp_T
    assert torch.equal(score_rows(policy, ROWS).logp_T.detach(), without)


def test_what_is_sampled_is_what_is_scored(tmp_path: Path):
    policy = loaded(tmp_path, "qwen3")
    requests = [SampleRequest(tuple(row.context_ids), seed=i) for i, row in enumerate(ROWS)]
    samples = TransformersEngine(policy).generate(requests, max_tokens=20, temperature=1.0)
    rows = [Row(r.prompt_ids, tuple(s.response_ids)) for r, s in zip(requests, samples, strict=True)]
    with torch.no_grad():
        scored = score_rows(policy, rows).logp_T
    sampled = torch.tensor([logp for sample in samples for logp in sample.logprobs])
    assert torch.allclose(scored, sampled, atol=1e-4)


def test_fewer_bytes_are_kept_for_the_way_back(tmp_path: Path):
    policy = loaded(tmp_path, "llama", dtype="bfloat16")
    kept = []
    kept.append(kept_bytes(policy))
    with modules_alone(policy):
        kept.append(kept_bytes(policy))
    assert 0 < 3 * kept[0] <= 2 * kept[1]


def kept_bytes(policy: Policy) -> int:
    """Of a forward pass through the layers, beside the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in policy.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    packed = pack([ROWS[0].context_ids], [[row.response_ids for row in ROWS]], policy.pad_id)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        assert policy.decoder(**packed.decoder_inputs(policy.device)).last_hidden_state.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("name", ["smollm3", "olmo2", "phi3", "granite-scaled"])
def test_layers_that_compute_something_else_stay_as_they_are(tmp_path: Path, name: str):
    """Without positions in some layers, with norms elsewhere, with products put together, scaled."""
    from trainer.errors import InvalidSpec

    try:
        policy = loaded(tmp_path, name)
    except InvalidSpec:
        assert name == "granite-scaled"  # its logits are scaled, too
        return
    assert sped_up(policy) == []


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_gradients_by_differences():
    """Each function's own way back against differences of its values, in float64."""
    x, weight = numbers(2, 3, 5).requires_grad_(), numbers(5).requires_grad_()
    assert gradcheck(lambda x, w: _Norm.apply(x, w, 1e-5), (x, weight))
    assert gradcheck(lambda x, w: _Norm.apply(x, w, 1e-5)[0], (x, weight))
    assert gradcheck(partial(applied, GATED), (numbers(2, 3, 8).requires_grad_(),))
    angles = torch.cat([numbers(1, 9, 2)] * 2, dim=-1)
    rotation = Rotation(angles.cos(), angles.sin())
    trees = Trees((Tree(0, 3, (2, 1)), Tree(6, 2, (1,))))
    heads = Heads(4, 2, 4)
    qkv = numbers(1, 9, sum(heads.by_kind) * heads.size).requires_grad_()
    assert gradcheck(lambda x: trees.attend_turned(0, x, heads, rotation, 0.5), (qkv,))
