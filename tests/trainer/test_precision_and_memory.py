"""Float32 logits from bfloat16 weights, and gradients that do not depend on how memory is saved."""

from pathlib import Path

import pytest
import torch

from tests.fixtures.groups import H, N, make_group, positions_of
from tests.fixtures.models import build_tiny_model
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.model.logprobs import OutputLayer, token_logprobs
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy, load_policy
from trainer.model.scoring import score_groups
from trainer.rollout.engine import SampleRequest
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.spec.algorithm import PolicySplit
from trainer.spec.model import LoraSpec, ModelSpec
from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT
from trainer.spec.run import OptimizerSpec
from trainer.steps.update import update
from trainer.types import Group, Rollout

BEHAVIOR = [N, N, H, H]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with opinions."""
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny", spread=0.3)


def load(folder: Path, lora: LoraSpec | None = None, **options) -> Policy:
    spec = ModelSpec.model_validate({"path": str(folder), **options})
    return load_policy(spec, DEFAULT_HIGH_ENTROPY_PROMPT, lora=lora)


# --- logits ------------------------------------------------------------------------------------------------


def lossy_case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(40, 64, generator=generator).bfloat16()
    output = torch.randn(300, 64, generator=generator).bfloat16()
    return hidden, output, torch.randint(0, 300, (40,), generator=generator)


@pytest.mark.parametrize("wide", [False, True], ids=["plain", "widened"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_float32_logits_are_those_of_exact_arithmetic(
    monkeypatch: pytest.MonkeyPatch, temperature: float, wide: bool
):
    """Against float64 on the same bfloat16 numbers; logits rounded to bfloat16 are off by hundredths."""
    monkeypatch.setattr("trainer.model.packed_linear.widens_bfloat16", lambda: wide)
    hidden, output, token = lossy_case()
    exact = token_logprobs(hidden.double(), output.double(), token, temperature)
    fine = token_logprobs(hidden, output, token, temperature, chunk=16)
    coarse = token_logprobs(hidden, output, token, temperature, chunk=16, logits_dtype="model")
    for found, rough, expected in zip(fine, coarse, exact, strict=True):
        assert found.dtype is torch.float32
        assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-4)
        assert float((rough - expected).abs().max()) > 1e-2


@pytest.mark.parametrize("wide", [False, True], ids=["plain", "widened"])
def test_gradients_through_float32_logits_are_right_to_the_precision_of_the_weights(
    monkeypatch: pytest.MonkeyPatch, wide: bool
):
    """Also where the processor has no instructions for bfloat16, and products are of float32 therefore."""
    monkeypatch.setattr("trainer.model.packed_linear.widens_bfloat16", lambda: wide)
    hidden, output, token = lossy_case()
    found, expected = [], []
    for gradients, dtype in ((found, torch.bfloat16), (expected, torch.float64)):
        leaves = [given.detach().to(dtype).requires_grad_() for given in (hidden, output)]
        logp, entropy = token_logprobs(leaves[0], leaves[1], token, 0.7)
        (logp.square().sum() + entropy.sum()).backward()
        gradients += [leaf.grad for leaf in leaves]
    for one, other in zip(found, expected, strict=True):
        assert float((one.double() - other).norm() / other.norm()) < 0.01


@pytest.mark.parametrize("logits_dtype", ["float32", "model"])
def test_rollouts_and_training_take_the_same_logits_from_a_hidden_state(logits_dtype):
    hidden, output, token = lossy_case()
    logits = OutputLayer(output, logits_dtype)(hidden, 0.7)
    expected = logits.log_softmax(-1).gather(-1, token[:, None]).squeeze(-1)
    found, _ = token_logprobs(hidden, output, token, 0.7, logits_dtype=logits_dtype)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_rollouts_and_trainer_agree_in_bfloat16(model_folder: Path):
    """Log-probabilities of the same tokens, sampled by one and scored by the other; what is left between them
    is the rounding of hidden states, which differ between decoding and a packed pass."""
    policy = load(model_folder)
    prompt = policy.prompt_ids([{"role": "user", "content": "hello"}], N)
    requests = [SampleRequest(tuple(prompt), seed=i) for i in range(32)]
    samples = TransformersEngine(policy).generate(requests, max_tokens=12, temperature=1.0)
    rollouts = [Rollout(N, s.response_ids, s.logprobs, s.truncated) for s in samples]
    with torch.no_grad():
        (scored,) = score_groups(policy, [Group(0, 0, {}, [], {N: prompt}, rollouts)], (N,))
    sampled = torch.tensor([value for s in samples for value in s.logprobs])
    assert float(sampled.std()) > 0.5
    assert float((scored[N].logp_T - sampled).abs().mean()) < 0.02


# --- memory ------------------------------------------------------------------------------------------------


def gradients(policy: Policy, micro: int = 1) -> dict[str, torch.Tensor]:
    """Float32 gradients of a batch of four groups, as the optimizer gets them."""
    groups = [make_group(policy, [1, 0, 0.5, 0], BEHAVIOR, index=i) for i in range(4)]
    kept: dict[str, torch.Tensor] = {}

    class Recorder(MasterAdamW):
        def step(self, step: int) -> float:
            kept.update({n: m.grad.clone() for n, m in self._masters.items() if m.grad is not None})
            return 0.0

    update(
        step_context(policy, build_algorithm(PolicySplit(eta=0.3), 16)),
        Recorder(policy.model, OptimizerSpec()),
        groups,
        first_update=0,
        tokens_per_micro_batch=micro * positions_of(policy, groups),
    )
    assert kept and all(gradient.dtype is torch.float32 for gradient in kept.values())
    return kept


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [None, LoraSpec(rank=4)], ids=["full", "lora"])
def test_recomputed_layers_give_the_same_gradients(model_folder: Path, dtype: str, lora: LoraSpec | None):
    plain = gradients(load(model_folder, lora, dtype=dtype))
    recomputed = gradients(load(model_folder, lora, dtype=dtype, gradient_checkpointing=True))
    assert plain.keys() == recomputed.keys()
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_accumulation_changes_gradients_by_rounding_alone(model_folder: Path, dtype: str, tolerance: float):
    """Micro-batches of 1, 2 and 4 of the batch's 4 groups; relative error of each gradient's norm."""
    whole = gradients(load(model_folder, dtype=dtype), micro=4)
    for micro in (1, 2):
        parts = gradients(load(model_folder, dtype=dtype), micro)
        for name, gradient in whole.items():
            assert float((parts[name] - gradient).norm() / gradient.norm()) < tolerance, name


def test_recomputation_keeps_less(model_folder: Path):
    """Bytes that autograd saves for the backward pass of the decoder, weights left out."""
    kept = {}
    for recompute in (False, True):
        policy = load(model_folder, dtype="float32", gradient_checkpointing=recompute)
        weights = {p.data_ptr() for p in policy.model.parameters()}
        saved: dict[int, int] = {}

        def pack(tensor: torch.Tensor, saved=saved, weights=weights) -> torch.Tensor:
            if tensor.data_ptr() not in weights:
                saved[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            hidden = policy.decoder(input_ids=torch.arange(200)[None], use_cache=False).last_hidden_state
        assert hidden.requires_grad
        kept[recompute] = sum(saved.values())
    assert kept[True] < kept[False] / 3


def test_rollouts_do_not_notice_recomputation(model_folder: Path):
    requests = [SampleRequest((256, 60, 61), seed=i) for i in range(4)]
    samples = [
        TransformersEngine(load(model_folder, dtype="float32", gradient_checkpointing=on)).generate(
            requests, max_tokens=10, temperature=1.0
        )
        for on in (False, True)
    ]
    assert samples[0] == samples[1]
