"""AdamW on float32 master weights, with gradients accumulated in float32."""

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from trainer.distributed.ranks import Ranks
from trainer.distributed.sharding import is_sharded, own_part, put_together
from trainer.model.moments import Moments
from trainer.spec.run import OptimizerSpec


class MasterAdamW:
    """Optimises a model whose weights may be bfloat16.

    Each parameter has a float32 master that AdamW updates (float32 weights are their own masters); gradients
    of micro-batches are added in float32 as soon as autograd has them. Matrices decay, vectors don't.
    ``trainer.model.moments`` keeps the moments. Of a sharded model weights, gradients and moments are this
    rank's shards, and ``step`` is collective.
    """

    def __init__(self, model: nn.Module, spec: OptimizerSpec):
        self._spec = spec
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._masters: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            if parameter.dtype.itemsize >= 4:
                self._masters[name] = parameter
            else:
                self._masters[name] = parameter.detach().float().requires_grad_()
                parameter.register_post_accumulate_grad_hook(self._accumulator(self._masters[name]))
        self._moments = Moments(self._masters, spec)

    @property
    def trained(self) -> int:
        """How many weights are trained."""
        return sum(parameter.numel() for parameter in self._parameters.values())

    @staticmethod
    def _accumulator(master: Tensor) -> Callable[[Tensor], None]:
        def add(parameter: Tensor) -> None:
            assert parameter.grad is not None
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad.add_(parameter.grad)
            parameter.grad = None

        return add

    def learning_rate(self, step: int) -> float:
        """The rate at optimizer step ``step`` (from 0): linear warm-up, then constant."""
        warmup = self._spec.warmup_steps
        return self._spec.learning_rate * (min(1.0, (step + 1) / warmup) if warmup else 1.0)

    def add_up(self, ranks: Ranks) -> None:
        """Sum the gradients over ranks, in float32; collective. Where no rank has one, none has after it.

        Those of shards are sums already.
        """
        masters = list(self._masters.values())
        if ranks.world == 1 or is_sharded(masters):
            return
        found = ranks.gather([master.grad is not None for master in masters])
        for master, *on_rank in zip(masters, *found, strict=True):
            if any(on_rank) and master.grad is None:
                master.grad = torch.zeros_like(master)
        ranks.add_up([master.grad for master in masters if master.grad is not None])

    def step(self, step: int) -> float:
        """Clip, update, clear gradients; returns the gradient norm before clipping.

        When the norm is not finite nothing is updated.
        """
        masters = [m for m in self._masters.values() if m.grad is not None]
        norm = 0.0
        if masters:
            norm = float(put_together(torch.nn.utils.clip_grad_norm_(masters, self._spec.max_grad_norm)))
        if math.isfinite(norm):
            self._moments.update(self.learning_rate(step), step)
            # It leaves version counters alone, by which packed copies of weights know their age.
            torch.autograd.graph.increment_version(masters)
            self._publish()
        for master in masters:
            master.grad = None
        return norm

    @torch.no_grad()
    def _publish(self) -> None:
        """Copy the masters to the weights in use."""
        for name, parameter in self._parameters.items():
            if parameter is not self._masters[name]:
                parameter.copy_(self._masters[name])

    def masters(self) -> dict[str, Tensor]:
        """The trained weights as they are optimised, float32, by name."""
        return dict(self._masters)

    def whole_masters(self) -> Iterator[tuple[str, Tensor]]:
        """The same in the order of their names, shards put together one after the other; collective."""
        for name, master in sorted(self._masters.items()):
            yield name, put_together(master)

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name."""
        masters = {f"master/{name}": master.detach() for name, master in self._masters.items()}
        return masters | self._moments.tensors()

    @torch.no_grad()
    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the trained weights alone, by their names in the model; KeyError, with none taken, for one."""
        if missing := self._masters.keys() - tensors.keys():
            raise KeyError(min(missing))
        for name, master in self._masters.items():
            master.copy_(tensors[name])
        self._publish()

    @torch.no_grad()
    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore what ``state_tensors`` gave; the weights in use follow."""
        for name, master in self._masters.items():
            own_part(master).copy_(own_part(tensors[f"master/{name}"]))
        self._moments.load(tensors)
        self._publish()
