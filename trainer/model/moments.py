"""AdamW's two moments of each trained weight: in float32 or in eight bits, on the device or on the host.

What is in float32 on the device is updated at once. Otherwise a slice of rows after the other is: its moments
are fetched to the device in float32, used by the same update, and put back, so that no more than ``SLICE`` of
them are there. Nothing is read from the device in between, so nothing is waited for.

In eight bits (``Eight``) a matrix's moments are kept as in arXiv 2110.02861 by blocks of up to 256 numbers,
each with its largest as a scale, but along a row, so that they are divided over ranks with the rows, and as

    first moment   ± (c / 127)² · scale      c of int8, rounded to the nearest
    second moment    (c / 255)⁸ · scale      c of uint8, at least 1 where the moment is not 0

whose relative precision, of the step too, is nearly the same over ten orders of magnitude: a block has such
where some inputs are much larger than others. An average that decays by 0.999 changes less in an update than
half a level is wide, and rounded to the nearest would stay as it is (arXiv 2505.00347). So the second moment
is rounded at a threshold that is another one at each update and in each column, and that passes over all of
[0, 1) evenly: multiples of two irrational numbers. It needs no generator, and is the same when resumed and on
any number of ranks. Vectors (norms, biases) stay in float32.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.adamw import adamw

from trainer.distributed.sharding import own_part, part_of
from trainer.spec.model_size import BLOCK
from trainer.spec.run import OptimizerSpec

#: Numbers whose moments are in float32 at once: as many as fit a CPU's cache, or keep a GPU busy.
SLICE, SLICE_ON_CPU = 1 << 24, 1 << 18
#: Parts of an update's and a column's threshold: irrational, and not multiples of each other.
OF_UPDATE, OF_COLUMN = 0.6180339887498949, 0.5698402909980532
FIRST, SECOND = "exp_avg", "exp_avg_sq"


class Moments:
    """Those of ``masters``: float32, this rank's parts where they are sharded; and AdamW with them.

    A weight has moments from its first gradient on.
    """

    def __init__(self, masters: Mapping[str, Tensor], spec: OptimizerSpec):
        self._masters, self._spec = masters, spec
        self._kept: dict[str, dict[str, Tensor]] = {}
        """By name: ``step``, which counts updates, and what the moments are kept as, by its own name."""

    @torch.no_grad()
    def update(self, rate: float, number: int) -> None:
        """Update the weights that have a gradient: the run's ``number``-th update, at the rate ``rate``."""
        found = {name: master for name, master in self._masters.items() if master.grad is not None}
        for name in found:
            if name not in self._kept:
                self._keep(name)
        in_slices = dict.fromkeys(
            name for name, one in found.items() if self._away(one) or is_eight(self._spec, one)
        )
        at_once = {name: found[name] for name in found if name not in in_slices}
        for decays in (True, False):
            self._adamw({name: one for name, one in at_once.items() if (one.ndim >= 2) == decays}, rate)
        for name in in_slices:
            self._update_slices(name, found[name], rate, number)

    def _away(self, master: Tensor) -> bool:
        """Whether its moments are elsewhere than it is."""
        return self._spec.offload and master.device.type != "cpu"

    def _adamw(self, found: Mapping[str, Tensor], rate: float) -> None:
        """All at once: they either all decay or none does."""
        if not found:
            return
        kept = [self._kept[name] for name in found]
        weights = list(found.values())
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        self._compute(
            [own_part(one) for one in weights],
            [own_part(one) for one in gradients],
            ([one[FIRST] for one in kept], [one[SECOND] for one in kept], [one["step"] for one in kept]),
            decays=any(one.ndim >= 2 for one in weights),
            rate=rate,
        )

    def _update_slices(self, name: str, master: Tensor, rate: float, number: int) -> None:
        assert master.grad is not None
        weight, gradient = _rows(own_part(master)), _rows(own_part(master.grad))
        step = self._kept[name]["step"]
        kept = {key: _rows(one) for key, one in self._kept[name].items() if key != "step"}
        eight = Eight(weight, number) if is_eight(self._spec, master) else None
        for rows in _slices(weight):
            there = {key: one[rows] for key, one in kept.items()}
            here = {key: one.to(weight.device, non_blocking=True) for key, one in there.items()}
            first, second = (here[FIRST], here[SECOND]) if eight is None else eight.read(here)
            self._compute(
                [weight[rows]],
                [gradient[rows]],
                ([first], [second], [step.clone()]),
                decays=master.ndim >= 2,
                rate=rate,
            )
            found = {FIRST: first, SECOND: second} if eight is None else eight.written(first, second)
            for key, one in there.items():
                if one is not found[key]:
                    one.copy_(found[key], non_blocking=True)
        step.add_(1)

    def _compute(
        self,
        weights: list[Tensor],
        gradients: list[Tensor],
        state: tuple[list[Tensor], list[Tensor], list[Tensor]],
        *,
        decays: bool,
        rate: float,
    ) -> None:
        first, second, steps = state
        spec = self._spec
        adamw(
            weights,
            gradients,
            first,
            second,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=spec.beta1,
            beta2=spec.beta2,
            lr=rate,
            weight_decay=spec.weight_decay if decays else 0.0,
            eps=spec.epsilon,
            maximize=False,
        )

    def _keep(self, name: str) -> dict[str, Tensor]:
        """Begin to keep moments, which are zero."""
        master = self._masters[name]
        weight = own_part(master)
        device = weight.device
        wanted = {FIRST: (weight.shape, weight.dtype), SECOND: (weight.shape, weight.dtype)}
        if is_eight(self._spec, master):
            wanted = Eight.kept_as(weight)
        away = self._away(master)
        place = torch.device("cpu") if away else device
        pinned = away and device.type == "cuda"  # so that the GPU is served without waiting
        kept = {"step": torch.zeros((), device=device)}
        for key, (shape, dtype) in wanted.items():
            kept[key] = torch.zeros(shape, dtype=dtype, device=place, pin_memory=pinned)
        self._kept[name] = kept
        return kept

    def tensors(self) -> dict[str, Tensor]:
        """All of them as ``KIND/NAME``; parts of sharded weights are parts of the same whole."""
        if self._spec.offload and torch.cuda.is_available():
            torch.cuda.synchronize()  # what is on its way to the host
        return {
            f"{key}/{name}": one if key == "step" else part_of(one, self._masters[name])
            for name, kept in self._kept.items()
            for key, one in kept.items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what ``tensors`` gave."""
        for name in self._masters:
            if f"step/{name}" in tensors:
                for key, one in self._keep(name).items():
                    one.copy_(own_part(tensors[f"{key}/{name}"]))


def is_eight(spec: OptimizerSpec, weight: Tensor) -> bool:
    """Whether the moments of ``weight`` are kept in eight bits."""
    return spec.moments == "int8" and weight.ndim >= 2


class Eight:
    """Moments of a matrix's rows in eight bits, and back, at an update."""

    def __init__(self, weight: Tensor, number: int):
        self._columns = weight.shape[-1]
        self._block = min(BLOCK, self._columns)
        columns = torch.arange(self._columns, dtype=torch.float64, device=weight.device).mul_(OF_COLUMN)
        self._threshold = self._blocks(columns.add_(number * OF_UPDATE % 1).frac_().to(weight.dtype))

    @staticmethod
    def kept_as(weight: Tensor) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Shape and type of what :meth:`written` gives for all rows."""
        blocks = -(-weight.shape[-1] // BLOCK)
        scale = (torch.Size((*weight.shape[:-1], blocks)), torch.float32)
        return {
            f"{FIRST}_code": (weight.shape, torch.int8),
            f"{FIRST}_scale": scale,
            f"{SECOND}_code": (weight.shape, torch.uint8),
            f"{SECOND}_scale": scale,
        }

    def _blocks(self, numbers: Tensor) -> Tensor:
        """``(…, columns)`` to ``(…, blocks, block)``, filled up with zeros."""
        blocks = -(-self._columns // self._block)
        more = blocks * self._block - self._columns
        return (F.pad(numbers, (0, more)) if more else numbers).unflatten(-1, (blocks, self._block))

    def _row(self, blocks: Tensor) -> Tensor:
        return blocks.flatten(-2)[..., : self._columns]

    def written(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """What the moments of some rows are kept as."""
        first, second = self._blocks(first), self._blocks(second)
        first_scale, second_scale = first.abs().amax(-1, keepdim=True), second.amax(-1, keepdim=True)
        tiny = torch.finfo(first.dtype).tiny
        share = first / first_scale.clamp_min(tiny)
        code = share.abs().sqrt_().mul_(127).round_().copysign_(share)
        root = (second / second_scale.clamp_min(tiny)).sqrt_().sqrt_().sqrt_().mul_(255)
        level = root.add_(self._threshold).floor_().clamp_(1, 255).mul_(second > 0)
        return {
            f"{FIRST}_code": self._row(code).to(torch.int8),
            f"{FIRST}_scale": first_scale.squeeze(-1).float(),
            f"{SECOND}_code": self._row(level).to(torch.uint8),
            f"{SECOND}_scale": second_scale.squeeze(-1).float(),
        }

    def read(self, kept: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The moments that are kept so, in the weights' precision."""
        dtype = self._threshold.dtype
        share = self._blocks(kept[f"{FIRST}_code"].to(dtype)).div_(127)
        first = share.mul_(share.abs()).mul_(kept[f"{FIRST}_scale"].to(dtype).unsqueeze(-1))
        root = self._blocks(kept[f"{SECOND}_code"].to(dtype)).div_(255)
        second = root.square_().square_().square_().mul_(kept[f"{SECOND}_scale"].to(dtype).unsqueeze(-1))
        return self._row(first).contiguous(), self._row(second).contiguous()


def _rows(numbers: Tensor) -> Tensor:
    """As a vector, or as the rows of one matrix: those of experts one after the other."""
    return numbers.flatten(0, -2) if numbers.ndim > 2 else numbers.reshape(1) if not numbers.ndim else numbers


def _slices(weight: Tensor) -> Iterator[slice]:
    """Rows of ``weight``, as many at once as ``SLICE`` allows. By sixteen: a CPU computes the last numbers
    of a slice one by one, and rounds them otherwise, where they do not fill a vector of its."""
    most = SLICE_ON_CPU if weight.device.type == "cpu" else SLICE
    step = max(16, most * weight.shape[0] // max(1, weight.numel()) // 16 * 16)
    for start in range(0, weight.shape[0], step):
        yield slice(start, start + step)
