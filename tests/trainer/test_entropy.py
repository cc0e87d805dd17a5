"""Entropy and chunked log-probabilities against closed forms and against plain autograd."""

import math

import pytest
import torch

from trainer.model.divergence import mode_divergences
from trainer.model.logprobs import OutputLayer, token_logprobs


def entropy_of(logits_V: torch.Tensor) -> torch.Tensor:
    """Of one token whose logits are these: a hidden state of one dimension, which is 1."""
    hidden, token = torch.ones(1, 1, dtype=logits_V.dtype), torch.zeros(1, dtype=torch.int64)
    return token_logprobs(hidden, logits_V[:, None], token)[1][0]


def test_closed_forms():
    uniform = torch.zeros(8)
    one_hot = torch.tensor([0.0, 1e4, -1e4])
    impossible = torch.tensor([0.0, 0.0, -math.inf])
    assert entropy_of(uniform).item() == pytest.approx(math.log(8), rel=1e-6)
    assert entropy_of(one_hot).item() == 0.0
    assert entropy_of(impossible).item() == pytest.approx(math.log(2), rel=1e-6)


def test_entropy_gradient_is_minus_p_times_log_p_plus_h():
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(5, dtype=torch.float64, generator=generator).requires_grad_()
        assert torch.autograd.gradcheck(entropy_of, (z,))
        (gradient,) = torch.autograd.grad(entropy_of(z), z)
        log_p = z.detach().log_softmax(-1)
        expected = -log_p.exp() * (log_p + entropy_of(z.detach()))
        assert torch.allclose(gradient, expected, rtol=1e-10)


def test_entropy_gradient_stays_finite_beside_impossible_tokens():
    z = torch.tensor([0.0, 1.0, -math.inf], requires_grad=True)
    (gradient,) = torch.autograd.grad(entropy_of(z), z)
    assert bool(gradient.isfinite().all())


def reference(hidden, output, token, temperature):
    logits = hidden @ output.t() / temperature
    log_p = logits.log_softmax(-1)
    return log_p.gather(-1, token[:, None]).squeeze(-1), -(log_p.exp() * log_p).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_chunked_equals_plain_autograd(chunk: int, temperature: float):
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(11, 6, dtype=torch.float64, generator=generator).requires_grad_()
    output = torch.randn(17, 6, dtype=torch.float64, generator=generator).requires_grad_()
    token = torch.randint(0, 17, (11,), generator=generator)
    weights = torch.randn(2, 11, dtype=torch.float64, generator=generator)
    results = []
    for function in (
        lambda: token_logprobs(hidden, output, token, temperature, chunk),
        lambda: reference(hidden, output, token, temperature),
    ):
        logp, entropy = function()
        gradients = torch.autograd.grad((weights[0] * logp + weights[1] * entropy).sum(), (hidden, output))
        only_logp = torch.autograd.grad((weights[0] * function()[0]).sum(), (hidden, output))
        results.append((logp, entropy, *gradients, *only_logp))
    for fast, slow in zip(*results, strict=True):
        assert torch.allclose(fast, slow, rtol=1e-9, atol=1e-12)


def test_bfloat16_weights_are_reduced_in_float32():
    hidden, output = torch.randn(4, 8).bfloat16(), torch.randn(32, 8).bfloat16()
    logp, entropy = token_logprobs(hidden, output, torch.arange(4))
    assert logp.dtype is torch.float32
    assert entropy.dtype is torch.float32


def test_divergences_against_enumeration():
    generator = torch.Generator().manual_seed(2)
    hidden_n, hidden_h = torch.randn(2, 5, 4, generator=generator)
    output = torch.randn(9, 4, generator=generator)
    n, h = (hidden_n @ output.t()).softmax(-1).double(), (hidden_h @ output.t()).softmax(-1).double()
    m = (n + h) / 2
    found = mode_divergences(hidden_n, hidden_h, OutputLayer(output))
    expected = {
        "kl_H_N": (h * (h / n).log()).sum(-1),
        "kl_N_H": (n * (n / h).log()).sum(-1),
        "js": ((h * (h / m).log()).sum(-1) + (n * (n / m).log()).sum(-1)) / 2,
    }
    for name, value in expected.items():
        assert torch.allclose(found[name].double(), value, rtol=1e-4, atol=1e-6), name
    same = mode_divergences(hidden_n, hidden_n, OutputLayer(output))
    assert all(float(value.abs().max()) < 1e-6 for value in same.values())


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_chunk_sizes_agree(temperature: float):
    """float32 and a vocabulary of 2,000, entropies and gradients, whole against in parts: at 1e-6."""
    generator = torch.Generator().manual_seed(3)
    hidden, output = torch.randn(70, 24, generator=generator), torch.randn(2000, 24, generator=generator) / 6
    token = torch.randint(0, 2000, (70,), generator=generator)
    weight = torch.randn(2, 70, generator=generator) / 70
    results = []
    for chunk in (70, 512, 64, 7, 1):
        variables = hidden.clone().requires_grad_(), output.clone().requires_grad_()
        logp, entropy = token_logprobs(*variables, token, temperature, chunk)
        gradients = torch.autograd.grad((weight[0] * logp + weight[1] * entropy).sum(), variables)
        results.append((logp, entropy, *gradients))
    whole = results[0]
    for parts in results[1:]:
        for one, other in zip(whole, parts, strict=True):
            assert torch.allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.bfloat16, 0.01)])
def test_kept_probabilities_change_nothing(dtype: torch.dtype, close: float):
    """Gradients with all, some and none of the probabilities kept for the way back; twice from one graph."""
    generator = torch.Generator().manual_seed(4)
    hidden = torch.randn(70, 24, generator=generator).to(dtype)
    output = (torch.randn(500, 24, generator=generator) / 6).to(dtype)
    token = torch.randint(0, 500, (70,), generator=generator)
    weight = torch.randn(70, generator=generator) / 70
    results = []
    for kept in (0, 30 * 500 * dtype.itemsize, 2**30):
        variables = hidden.clone().requires_grad_(), output.clone().requires_grad_()
        logp, _ = token_logprobs(*variables, token, 0.8, 16, kept_bytes=kept)
        once = torch.autograd.grad((weight * logp).sum(), variables, retain_graph=True)
        again = torch.autograd.grad((weight * logp).sum(), variables)
        assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))
        results.append(once)
    for gradients in results[1:]:
        for one, other in zip(results[0], gradients, strict=True):
            assert (one.float() - other.float()).abs().max() <= close * one.float().abs().max()
