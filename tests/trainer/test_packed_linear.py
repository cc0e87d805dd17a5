"""Packed weights: the same products and gradients, and never a stale copy."""

import copy

import pytest
import torch
from torch import nn

from trainer.model.optim import MasterAdamW
from trainer.model.packed_linear import pack_linear_layers
from trainer.spec.run import OptimizerSpec

CLOSE = {torch.float32: 1e-5, torch.bfloat16: 0.02}


def layers(dtype: torch.dtype, bias: bool) -> tuple[nn.Linear, nn.Linear]:
    """The same layer twice, the second one packed."""
    torch.manual_seed(0)
    plain = nn.Linear(48, 80, bias=bias).to(dtype)
    packed = copy.deepcopy(plain)
    pack_linear_layers(packed)
    return plain, packed


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", list(CLOSE))
def test_values_and_gradients_are_those_of_the_plain_layer(dtype: torch.dtype, bias: bool):
    x = torch.randn(3, 5, 48, generator=torch.Generator().manual_seed(1)).to(dtype)
    results = []
    for layer in layers(dtype, bias):
        inputs = x.clone().requires_grad_()
        output = layer(inputs)
        output.float().square().sum().backward()
        results.append([output, inputs.grad, *(p.grad for p in layer.parameters())])
    for plain, packed in zip(*results, strict=True):
        assert packed.dtype == dtype
        assert (plain.float() - packed.float()).abs().max() <= CLOSE[dtype] * plain.float().abs().max()


@pytest.mark.parametrize("dtype", list(CLOSE))
def test_an_optimizer_step_is_seen(dtype: torch.dtype):
    """Fused AdamW leaves version counters alone; the copy follows all the same, with and without autograd."""
    plain, packed = layers(dtype, bias=False)
    optimizer = MasterAdamW(packed, OptimizerSpec(learning_rate=0.5))
    x = torch.randn(4, 48, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = packed(x)
    before.float().sum().backward()
    optimizer.step(0)
    plain.weight.data.copy_(packed.weight.data)
    with torch.inference_mode():
        after = packed(x)
    assert (after.float() - before.float()).abs().max() > 1
    close = CLOSE[dtype] * after.float().abs().max()
    assert (after.float() - plain(x).float()).abs().max() <= close
    assert (packed(x).float() - plain(x).float()).abs().max() <= close


def test_other_precisions_stay_as_they_are():
    plain, packed = layers(torch.float32, bias=True)
    x = torch.randn(4, 48, dtype=torch.float64)
    assert torch.equal(plain.double()(x), packed.double()(x))


@pytest.mark.parametrize("dtype", list(CLOSE))
def test_other_memory_is_seen(dtype: torch.dtype):
    """A weight put in place and taken away again, as merging adapters does, leaves no trace."""
    plain, packed = layers(dtype, bias=False)
    x = torch.randn(4, 48, generator=torch.Generator().manual_seed(1)).to(dtype)
    before, weight = packed(x), packed.weight.data
    packed.weight.data = weight + 1
    plain.weight.data = weight + 1
    assert (packed(x).float() - plain(x).float()).abs().max() <= CLOSE[dtype] * plain(x).float().abs().max()
    packed.weight.data = weight
    assert torch.equal(packed(x), before)
