"""Moments in eight bits and in the host's memory, beside torch's AdamW with float32 moments as reference."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.fixtures.far_device import FarDevice, FarTensor
from trainer.checkpoints.checkpoint import Counters, load_state, save_state
from trainer.model import moments
from trainer.model.moments import Eight
from trainer.model.optim import MasterAdamW
from trainer.spec.run import OptimizerSpec

RATE = 1e-3
#: Two rows a block, a row of a block and a part of one, and vectors.
WIDTHS = (300, 40, 5)
KINDS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32 on the host": {"offload": True},
    "int8": {"moments": "int8"},
    "int8 on the host": {"moments": "int8", "offload": True},
}


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    inputs, inner, outputs = WIDTHS
    return nn.Sequential(nn.Linear(inputs, inner), nn.Tanh(), nn.Linear(inner, outputs)).to(dtype)


def optimizer_of(model: nn.Module, kind: str = "float32") -> MasterAdamW:
    return MasterAdamW(model, OptimizerSpec(learning_rate=RATE, **KINDS[kind]))


def batch(step: int, scales: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Inputs, and what a fixed network makes of them with noise."""
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(16, WIDTHS[0], generator=generator)
    torch.manual_seed(9)
    wanted = nn.Linear(WIDTHS[0], WIDTHS[2], bias=False).requires_grad_(False)(inputs)
    noise = 0.1 * torch.randn(16, WIDTHS[2], generator=generator)
    return inputs * (1 if scales is None else scales), wanted + noise


def learn(
    model: nn.Module, step: Callable[[int], object], steps: range, scales: Tensor | None = None
) -> list[float]:
    """Losses of updates by ``step`` of a regression; the model's inputs may be of unequal ``scales``."""
    dtype, losses = next(model.parameters()).dtype, []
    for number in steps:
        inputs, wanted = batch(number, scales)
        loss = (model(inputs.to(dtype)).float() - wanted).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
        step(number)
    return losses


def bits(model: nn.Module) -> list[Tensor]:
    return [one.detach().clone() for one in model.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_float32_moments_are_torch_s_adamw_to_the_bit(dtype: torch.dtype):
    model, plain = network(dtype), network(dtype)
    learn(model, optimizer_of(model).step, range(30))
    masters = [one.detach().float().clone().requires_grad_() for one in plain.parameters()]
    groups = [
        {"params": [one for one in masters if one.ndim > 1], "weight_decay": 1e-2},
        {"params": [one for one in masters if one.ndim < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=RATE, fused=True)

    def step(number: int) -> None:
        for parameter, master in zip(plain.parameters(), masters, strict=True):
            assert parameter.grad is not None
            master.grad, parameter.grad = parameter.grad.float(), None
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        adamw.step()
        with torch.no_grad():
            for parameter, master in zip(plain.parameters(), masters, strict=True):
                parameter.copy_(master)

    learn(plain, step, range(30))
    assert same(bits(model), bits(plain))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_device_updates_are_those_of_the_cpu_and_wait_for_nothing_more(kind: str, dtype: torch.dtype):
    """With ``offload`` nothing but the count of updates is on the device between them."""
    on_device = kind.removesuffix(" on the host")
    expected = network(dtype)
    learn(expected, optimizer_of(expected, on_device).step, range(3))
    found: dict[str, list[int]] = {}
    for each in (on_device, kind):
        near, far = network(dtype), network(dtype)
        with FarDevice() as device:
            device.take(far)
            optimizer = optimizer_of(far, each)
            found[each] = []
            for number in range(3):
                learn(near, lambda _: None, range(number, number + 1))
                for there, here in zip(far.parameters(), near.parameters(), strict=True):
                    gradient, here.grad = here.grad, None
                    assert gradient is not None
                    there.backward(FarTensor(gradient))
                before = device.waits.total()
                optimizer.step(number)
                found[each].append(device.waits.total() - before)
                with torch.no_grad():
                    for there, here in zip(far.parameters(), near.parameters(), strict=True):
                        here.copy_(getattr(there, "near"))  # noqa: B009
            state = optimizer.state_tensors()
        assert same(bits(near), bits(expected))
        kept = {name: one for name, one in state.items() if name.startswith("exp_avg")}
        assert len(kept) > 4
        assert all(isinstance(one, FarTensor) != (each != on_device) for one in kept.values())
    assert found[kind] == found[on_device] and max(found[kind]) <= 1


def test_slices_change_no_bit(monkeypatch: pytest.MonkeyPatch):
    whole = {kind: network() for kind in KINDS}
    for kind, model in whole.items():
        learn(model, optimizer_of(model, kind).step, range(5))
    monkeypatch.setattr(moments, "SLICE_ON_CPU", 16 * WIDTHS[0])
    for kind, expected in whole.items():
        model = network()
        learn(model, optimizer_of(model, kind).step, range(5))
        assert same(bits(model), bits(expected)), kind


def test_eight_bits_have_a_bounded_error_and_a_moment_that_is_not_zero_stays_so():
    torch.manual_seed(0)
    weight = torch.zeros(64, 700)
    first = torch.randn(64, 700) * 10 ** (-3 * torch.rand(64, 700))
    second = first.square() * 10 ** (4 * torch.rand(64, 700) - 6)
    second[0] = 0
    first[:, 3] = 0
    eight = Eight(weight, 5)
    kept = eight.written(first, second)
    shapes = {key: (one.shape, one.dtype) for key, one in kept.items()}
    assert shapes == Eight.kept_as(weight) and kept["exp_avg_scale"].shape == (64, 3)
    got, squared = eight.read(kept)
    scale = torch.repeat_interleave(kept["exp_avg_scale"], 256, -1)[:, :700]
    off = (got / scale).abs().sqrt() - (first / scale).abs().sqrt()
    assert (off.abs() * 127 <= 0.501).all()
    assert (got * first >= 0).all() and not got[:, 3].any()
    scale = torch.repeat_interleave(kept["exp_avg_sq_scale"], 256, -1)[1:, :700]
    off = (squared[1:] / scale).pow(1 / 8) - (second[1:] / scale).pow(1 / 8)
    assert (off.abs() * 255 <= 1.001).all()
    assert torch.equal(squared > 0, second > 0) and not squared[0].any()
    # The largest of a block is what it was.
    largest = second[1:].unflatten(-1, (7, 100))[:, :2].flatten(1).amax(-1)
    assert torch.allclose(squared[1:, :200].amax(-1), largest, rtol=0.07)


def test_a_second_moment_in_eight_bits_follows_a_decay_that_is_less_than_half_a_level():
    """Rounded to the nearest level it would stay where it is for ever."""
    weight = torch.zeros(1, 256)
    second = torch.full((1, 256), 0.5)
    second[0, 0] = 1.0  # the scale, which stays
    for number in range(1000):
        eight = Eight(weight, number)
        _, second = eight.read(eight.written(torch.zeros(1, 256), second))
        second[0, 1:] *= 0.999
    expected = 0.5 * 0.999**1000
    ratios = second[0, 1:] / expected
    assert ratios.mean() == pytest.approx(1, abs=0.05)
    assert ratios.min() > 0.8 and ratios.max() < 1.25


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "inputs of unequal size"])
def test_eight_bits_learn_as_float32_does(uneven: bool):
    """300 updates: the weights go 3 % elsewhere, with uneven inputs 8 %, and the loss is the same."""
    scales = torch.ones(WIDTHS[0])
    if uneven:
        scales[::50] = 30.0
    found: dict[str, tuple[list[Tensor], float]] = {}
    for kind in ("float32", "int8"):
        model = network()
        with torch.no_grad():
            model[0].weight.div_(scales)  # type: ignore[union-attr,operator]
        start = bits(model)
        losses = learn(model, optimizer_of(model, kind).step, range(300), scales)
        found[kind] = bits(model), math.fsum(losses[-50:])
        assert math.fsum(losses[-50:]) < 0.1 * math.fsum(losses[:50])
    (exact, loss), (eight, close) = found["float32"], found["int8"]
    assert close == pytest.approx(loss, rel=0.01)
    moved = sum(float((a - b).square().sum()) for a, b in zip(exact, start, strict=True))
    off = sum(float((a - b).square().sum()) for a, b in zip(exact, eight, strict=True))
    assert 0 < off < (0.08 if uneven else 0.03) ** 2 * moved


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_optimizer_goes_on_from_its_state_to_the_bit(kind: str, dtype: torch.dtype, tmp_path: Path):
    model = network(dtype)
    optimizer = optimizer_of(model, kind)
    learn(model, optimizer.step, range(5))
    save_state(tmp_path, optimizer, Counters(step=5))
    learn(model, optimizer.step, range(5, 9))
    again = network(dtype)
    resumed = optimizer_of(again, kind)
    counters, problems = load_state(tmp_path, resumed)
    assert counters is not None and counters.step == 5 and not problems
    learn(again, resumed.step, range(5, 9))
    assert same(bits(again), bits(model))
