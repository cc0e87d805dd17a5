"""What AdamW's moments cost, and what eight bits do to training: ``python -m benchmarks.moments``.

A matrix of 2,000 × 4,096 is updated with random gradients: the fastest of six updates, and the bytes that the
optimizer keeps beside the weight. Then a small language model (0.6 million weights) learns the bytes of the
documentation for 400 updates of 512 tokens: its loss over the last 50, and how far its matrices are from
those with float32 moments, relative to how far these went. ``uneven`` makes two of its 128 inner numbers 300
times as large before each layer, as large models have them. With bitsandbytes (``pip install bitsandbytes``)
its AdamW8bit is a row of its own.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.model.optim import MasterAdamW
from trainer.spec.run import OptimizerSpec

TEXT, CONTEXT, WIDTH, UPDATES, LAST = 8, 64, 128, 400, 50
RATE, DECAY = 3e-4, 1e-2
Step = Callable[[int], object]
Make = Callable[[nn.Module], tuple[Step, Callable[[], Iterable[Tensor]]]]
"""Of a model its optimizer's step, and what that keeps."""


class Layer(nn.Module):
    """Attention of four heads and a feed-forward part."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.second = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.inputs, self.output = (nn.Linear(WIDTH, wide * WIDTH, bias=False) for wide in (3, 1))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        parts = self.inputs(self.norm(hidden)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*parts, is_causal=True)
        hidden = hidden + self.output(attended.transpose(1, 2).flatten(-2))
        return hidden + self.down(F.gelu(self.up(self.second(hidden))))


class Small(nn.Module):
    """A language model of bytes."""

    def __init__(self, uneven: bool):
        super().__init__()
        torch.manual_seed(0)
        self.token, self.place = nn.Embedding(256, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.layers, self.norm = nn.Sequential(*(Layer() for _ in range(3))), nn.RMSNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 256, bias=False)
        for layer in self.layers if uneven else ():
            assert isinstance(layer, Layer)
            with torch.no_grad():
                for norm, reader in ((layer.norm, layer.inputs), (layer.second, layer.up)):
                    norm.weight[[3, 77]] = 300.0
                    reader.weight[:, [3, 77]] /= 300.0

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.token(tokens) + self.place.weight)))


def ours(**kept: object) -> Make:
    """Our optimizer: its step, and what it keeps."""

    def of(model: nn.Module) -> tuple[Step, Callable[[], Iterable[Tensor]]]:
        spec = OptimizerSpec.model_validate({"learning_rate": RATE, "weight_decay": DECAY, **kept})
        optimizer = MasterAdamW(model, spec)
        return optimizer.step, lambda: [
            one for name, one in optimizer.state_tensors().items() if name.startswith("exp_avg")
        ]

    return of


def theirs(model: nn.Module) -> tuple[Step, Callable[[], Iterable[Tensor]]]:
    """That of bitsandbytes, with the same clipping and decay."""
    parameters = list(model.parameters())
    matrices, vectors = ([one for one in parameters if (one.ndim > 1) == matrix] for matrix in (True, False))
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = importlib.import_module("bitsandbytes.optim").AdamW8bit(groups, lr=RATE)

    def step(_: int) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    names = ("state1", "state2", "absmax1", "absmax2")
    return step, lambda: [one[name] for one in optimizer.state.values() for name in names if name in one]


def main() -> None:
    """Print both tables as one."""
    kinds = {"float32": ours(), "int8": ours(moments="int8")}
    if importlib.util.find_spec("bitsandbytes"):
        kinds["bitsandbytes"] = theirs
    folder = Path(__file__).parents[1] / "docs"
    text = torch.tensor(list(b"".join(one.read_bytes() for one in sorted(folder.rglob("*.md")))))
    print("| moments | bytes a weight | ns a weight | loss | off | loss, uneven | off |")
    print("|---|---|---|---|---|---|---|")
    reference: dict[bool, list[Tensor]] = {}
    for name, make in kinds.items():
        cells = [*(f"{value:.2f}" for value in cost(make))]
        for uneven in (False, True):
            loss, weights = learn(make, text, uneven)
            exact = reference.setdefault(uneven, weights)
            moved = sum(
                float((a - b).square().sum()) for a, b in zip(exact, matrices(Small(uneven)), strict=True)
            )
            off = sum(float((a - b).square().sum()) for a, b in zip(exact, weights, strict=True))
            cells += [f"{loss:.4f}", f"{100 * (off / moved) ** 0.5:.1f} %"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def cost(make: Make) -> tuple[float, float]:
    """Bytes that are kept and nanoseconds of an update, of each weight of a large matrix."""
    model = nn.Linear(4096, 2000, bias=False)
    step, kept = make(model)
    seconds: list[float] = []
    for number in range(6):
        model.weight.grad = torch.randn_like(model.weight)
        began = time.perf_counter()
        step(number)
        seconds.append(time.perf_counter() - began)
    weights = model.weight.numel()
    held = sum(one.numel() * one.element_size() for one in kept())
    return held / weights, min(seconds) * 1e9 / weights


def learn(make: Make, text: Tensor, uneven: bool) -> tuple[float, list[Tensor]]:
    """The loss over the last updates, and the matrices after them."""
    model = Small(uneven)
    step, _ = make(model)
    generator = torch.Generator().manual_seed(1)
    losses: list[float] = []
    for number in range(UPDATES):
        starts = torch.randint(len(text) - CONTEXT - 1, (TEXT,), generator=generator)
        rows = torch.stack([text[start : start + CONTEXT + 1] for start in starts.tolist()])
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        step(number)
        losses.append(float(loss.detach()))
    return sum(losses[-LAST:]) / LAST, matrices(model)


def matrices(model: nn.Module) -> list[Tensor]:
    """Those of a model."""
    return [one.detach() for one in model.parameters() if one.ndim > 1]


if __name__ == "__main__":
    main()
