"""Products of bfloat16 that stay in float32, as CUDA has them: log-probabilities, their gradients, decoding.

The operators' part for the CPU is written here, from their documentation, so that the calls that a GPU gets
run: shapes, types and what is added to what. On a GPU the same tests use its own.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from trainer.model.attention import Trees
from trainer.model.logprobs import LEAST_CHUNK, Cost, OutputLayer, compared_logprobs, token_logprobs
from trainer.model.products import add_product, wide_product
from trainer.model.trees import Tree
from trainer.rollout.prefix_cache import PrefixCache

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if DEVICE == "cuda":
        yield
        return

    def mm(a: Tensor, b: Tensor, out_dtype: torch.dtype) -> Tensor:
        assert a.dtype == b.dtype == torch.bfloat16 and out_dtype == torch.float32
        return a.float() @ b.float()

    def addmm(
        total: Tensor, a: Tensor, b: Tensor, out_dtype: torch.dtype, *, out: Tensor, **_: object
    ) -> Tensor:
        assert out_dtype == total.dtype == torch.float32 and out.data_ptr() == total.data_ptr()
        return out.copy_(total + mm(a, b, out_dtype))

    for module in ("model.products", "model.logprobs", "rollout.prefix_cache"):
        monkeypatch.setattr(f"trainer.{module}.sums_stay", lambda x: x.dtype.itemsize < 4)
    # As on a GPU also where this CPU widens bfloat16.
    monkeypatch.setattr("trainer.model.logprobs.widens", lambda weight: False)
    monkeypatch.setattr("trainer.model.logprobs.can_pack", lambda weight: False)
    with torch.library._scoped_library("aten", "IMPL") as library:
        for name, function in (("mm.dtype", mm), ("bmm.dtype", mm), ("addmm.dtype_out", addmm)):
            library.impl(name, function, "CPU")
        yield


def drawn(*shapes: tuple[int, ...], scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(shape, generator=generator) * scale).to(DEVICE, torch.bfloat16) for shape in shapes]


def test_products_are_those_of_float64_rounded_once(as_on_a_gpu):
    a, b = drawn((2, 3, 40, 64), (2, 3, 64, 30))
    for left, right in ((a, b), (a[0, 0], b[0, 0])):
        exact = left.double() @ right.double()
        found = wide_product(left, right)
        assert found.dtype == torch.float32
        assert float((found - exact).abs().max()) < 1e-5 * float(exact.abs().max())


def test_many_products_add_up_in_float32(as_on_a_gpu):
    """Fifty parts: rounded to bfloat16 before they are added, each would be off by 0.4 % of itself."""
    total = torch.zeros(40, 30, device=DEVICE)
    parts = [drawn((40, 64), (64, 30), scale=0.1 + number) for number in range(50)]
    for a, b in parts:
        add_product(total, a, b)
    exact = torch.stack([a.double() @ b.double() for a, b in parts]).sum(0)
    assert float((total - exact).abs().max()) < 1e-6 * float(exact.abs().max())


@pytest.mark.parametrize("kept_bytes", [0, 1 << 40], ids=["again", "kept"])
def test_gradients_of_log_probabilities(as_on_a_gpu, kept_bytes: int):
    """Against autograd in float64 from the same numbers; of hidden states and of the output matrix."""
    hidden, output = drawn((300, 64), (500, 64))
    token = torch.randint(0, 500, (300,), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    weight = torch.linspace(-1, 1, 300, dtype=torch.float64, device=DEVICE)
    for leaf in (hidden, output):
        leaf.requires_grad_()
    logp, entropy = token_logprobs(hidden, output, token, 0.8, 32, kept_bytes=kept_bytes)
    found = torch.autograd.grad((logp.double() * weight).sum(), (hidden, output))
    exact = [x.detach().double().requires_grad_() for x in (hidden, output)]
    log_p = (exact[0] @ exact[1].t() / 0.8).log_softmax(-1)
    expected = log_p.gather(-1, token[:, None]).squeeze(-1)
    assert torch.allclose(logp.double(), expected, rtol=0, atol=1e-4)
    assert torch.allclose(entropy.double(), -(log_p.exp() * log_p).sum(-1), rtol=0, atol=1e-4)
    for one, other in zip(found, torch.autograd.grad((expected * weight).sum(), exact), strict=True):
        assert one.dtype == torch.bfloat16
        assert float((one.double() - other).norm() / other.norm()) < 0.004


def test_logits_of_decoding_and_of_training_are_the_same_bits(as_on_a_gpu):
    hidden, output = drawn((9, 64), (500, 64))
    token = torch.randint(0, 500, (9,), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    layer = OutputLayer(output)
    sampled = layer(hidden, 0.7).log_softmax(-1).gather(-1, token[:, None]).squeeze(-1)
    scored, _, _ = compared_logprobs(hidden, output, token, layer, 0.7)
    assert sampled.dtype == torch.float32
    assert torch.allclose(sampled, scored, rtol=0, atol=2e-6)


def test_scores_of_decoding_are_float32(as_on_a_gpu):
    """Attention of a row's next token on its prompt and itself, against float64: what is left is the rounding
    of weights and outputs. Scores around 40 that are rounded to bfloat16 would be off by a tenth."""
    size, lengths = 64, [70, 30]
    prompt_q, prompt_k, prompt_v = drawn((1, 4, 100, size), (1, 2, 100, size), (1, 2, 100, size))
    q, k, v = drawn((3, 4, 1, size), (3, 2, 1, size), (3, 2, 1, size))
    prompt_k, k = 2 * prompt_k, 2 * k
    cache = PrefixCache(lengths, [0, 0, 1], torch.device(DEVICE))
    cache.prefill(Trees((Tree(0, 70, ()), Tree(70, 30, ())))).attend(0, prompt_q, prompt_k, prompt_v, 0.4)
    cache.advance()
    found = cache.attend(0, q, k, v, 0.4)
    for row, part in enumerate((slice(0, 70), slice(0, 70), slice(70, 100))):
        keys, values = (
            torch.cat([x[0, :, part], own[row]], dim=1).double().repeat_interleave(2, dim=0)
            for x, own in ((prompt_k, k), (prompt_v, v))
        )
        scores = q[row].double() @ keys.transpose(-1, -2) * 0.4
        exact = (scores.softmax(-1) @ values)[:, 0]
        assert float(scores.abs().max()) > 15
        assert float((found[row, 0].double() - exact).norm() / exact.norm()) < 0.005


def test_a_chunk_is_as_large_as_a_device_has_room_for():
    """Four copies in float32 take a part in 32 of its memory, and so do probabilities that are kept."""
    memory, vocabulary = 139 * 2**30, 151_936
    chunk, kept = Cost.on(memory, vocabulary)
    assert 0.9 < chunk * 16 * vocabulary / (memory / 32) <= 1
    assert kept == memory // 32
    assert Cost.on(8 * 2**30, vocabulary).chunk == LEAST_CHUNK
    assert Cost.on(24 * 2**30, 32_000).chunk > Cost.on(24 * 2**30, vocabulary).chunk


LIGER = """
import torch
from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction as Liger
from trainer.model.logprobs import token_logprobs

draw = torch.Generator().manual_seed(0)
hidden, output = (torch.randn(size, 32, generator=draw).requires_grad_() for size in (40, 300))
token = torch.randint(0, 300, (40,), generator=draw)
theirs = Liger.apply(hidden, output, token)[0]
ours = -token_logprobs(hidden, output, token, chunk=16)[0].mean()
pairs = zip(*(torch.autograd.grad(loss, (hidden, output)) for loss in (theirs, ours)))
print(float((ours - theirs).abs()), *(float((a - b).abs().max() / b.abs().max()) for a, b in pairs))
"""


@pytest.mark.skipif(
    not (find_spec("liger_kernel") and find_spec("triton")),
    reason="wants liger-kernel and triton, which are no part of the environment",
)
def test_log_probabilities_are_those_of_liger_kernels_fused_loss():
    """Value and gradients, in float32; its kernel runs in triton's interpreter where there is no GPU."""
    done = subprocess.run(
        [sys.executable, "-c", LIGER],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert max(map(float, done.stdout.split())) < 2e-6
