"""Weights, gradients and AdamW's moments divided over ranks: FSDP2, ``torch.distributed.fsdp.fully_shard``.

Each rank keeps a 1/N of every weight, along its first dimension, in float32 where it is trained. A layer's
weights are put together, in the model's own precision, when the layer is computed, and dropped after it; its
gradients are summed in float32 as soon as the layer has them, and each rank keeps its part. What does not
belong to a layer (embeddings, last norm, output matrix) is one more unit, the root: it is whole from the
forward pass to the end of the backward pass, for log-probabilities are computed of hidden states and the
output matrix outside the model's own ``forward``.

Every pass is collective: all ranks make as many, in the same order, and a backward pass for the same ones.
Gradients are summed at each backward pass. To sum them once a step would save communication, but keep the
whole model's gradients in float32 on every rank until then: four bytes a weight, what sharding is to save.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

Outputs = tuple[Tensor, ...]


class _Root(nn.Module):
    """What is computed with weights of the root, inside its forward pass."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], Outputs]) -> Outputs:
        return compute()


class Sharding:
    """A model whose weights are divided over all ranks; ``shard_model`` makes it."""

    def __init__(self, root: nn.Module, layers: Sequence[nn.Module], dtype: torch.dtype):
        self.dtype = dtype
        """What is computed in."""
        self.passes = 0
        """How often weights were put together: what was made of them serves as long as this stays."""
        self._root, self._layers = cast(FSDPModule, root), [cast(FSDPModule, layer) for layer in layers]
        self._is_whole = False
        self._left = False
        """Whether a pass without gradient left the root whole, and its layers on torch's list."""
        for unit in (self._root, *self._layers):
            unit.set_gradient_divide_factor(1.0)  # sums, of every unit: it does not go down to the layers
            unit.set_force_sum_reduction_for_comms(True)
        # Experts that no token of one rank went to.
        self._root.set_reduce_scatter_unused_params(True)
        # The first forward pass decides which module is the root: not a layer's, when sampling comes first.
        self.run(lambda: ())
        self.rest()

    def run(self, compute: Callable[[], Outputs]) -> Outputs:
        """What ``compute`` gives: a forward pass of the model, and what is made of it; collective.

        Where gradients are enabled a backward pass from the outputs has to follow, on all ranks.
        """
        if self._is_whole:
            return compute()
        if self._left:
            self.rest()
        self.passes += 1
        self._left = not torch.is_grad_enabled()
        return cast(nn.Module, self._root)(compute)

    def rest(self) -> None:
        """All weights are shards again: after passes without gradient the root is not."""
        if not self._is_whole:
            self._root.reset_iter_state()
            self._left = False

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within the block every rank has all weights, in the model's precision, and the model is computed
        with as a plain one, without gradient and as often as each rank likes. Collective where it begins.
        """
        if self._is_whole:
            yield
            return
        self.rest()
        self.passes += 1
        # Weights that are made in inference mode could not be trained.
        with torch.inference_mode(False):
            for unit in (self._root, *self._layers):
                unit.unshard()
        self._root.set_reshard_after_forward(False)
        self._is_whole = True
        try:
            yield
        finally:
            self._is_whole = False
            self.passes += 1
            for layer in self._layers:
                layer.set_reshard_after_forward(True, recurse=False)
            self.rest()


def shard_model(model: nn.Module, layers: Sequence[nn.Module]) -> Sharding:
    """Divide ``model``, which is the same on all ranks, over them: each layer a unit, the rest another.

    Shards go to this rank's GPU, if it has one, layer by layer: the whole never has to fit there. Collective.
    Raises ValueError where the weights are not all of one precision.
    """
    dtypes = {parameter.dtype for parameter in model.parameters()}
    if len(dtypes) != 1:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        raise ValueError(f"its weights are of {names}, and a unit is put together in one precision")
    (dtype,) = dtypes
    root, mesh = _Root(model), _mesh()
    half = dtype.itemsize < 4
    precision = MixedPrecisionPolicy(
        param_dtype=dtype if half else None,
        reduce_dtype=torch.float32 if half else None,
        cast_forward_inputs=False,  # the model itself says in what it computes
    )
    for layer in layers:
        _widen(layer)
        fully_shard(layer, mesh=mesh, mp_policy=precision)
    _widen(root)
    fully_shard(root, mesh=mesh, mp_policy=precision)
    return Sharding(root, layers, dtype)


def _mesh() -> DeviceMesh:
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return init_device_mesh(kind, (torch.distributed.get_world_size(),), mesh_dim_names=("shard",))


def _widen(module: nn.Module) -> None:
    """What is trained gets float32 masters; what is frozen stays as it is."""
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.dtype.itemsize < 4:
            parameter.data = parameter.data.float()


def is_sharded(tensors: Iterable[Tensor]) -> bool:
    """Whether these are shards."""
    return any(isinstance(tensor, DTensor) for tensor in tensors)


def put_together(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The whole of a shard, in ``dtype``, in memory of its own; collective. A plain tensor is that."""
    tensor = tensor.detach().to(dtype or tensor.dtype)
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """What this rank has of a shard; all of a plain tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def part_of(own: Tensor, whole: Tensor) -> Tensor:
    """This rank's rows as a shard of what is divided as ``whole`` is, and has its last dimension's own width;
    where they are kept. Of a plain tensor they are all. Collective where it is first called on a GPU."""
    if not isinstance(whole, DTensor):
        return own
    shape = torch.Size((*whole.shape[:-1], own.shape[-1])) if own.ndim > 1 else whole.shape
    return DTensor.from_local(
        own,
        host_mesh(whole) if own.device.type == "cpu" else whole.device_mesh,
        whole.placements,
        run_check=False,
        shape=shape,
        stride=torch.empty(shape, device="meta").stride(),
    )


def host_mesh(shard: DTensor) -> DeviceMesh:
    """Of the same ranks, for what is in the memory of hosts. Collective where it is first called on a GPU."""
    mesh = shard.device_mesh
    return mesh if mesh.device_type == "cpu" else _host_mesh(mesh.size())


@cache
def _host_mesh(ranks: int) -> DeviceMesh:
    return init_device_mesh("cpu", (ranks,))


def own_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of what this rank has of them."""
    return sum(own.numel() * own.element_size() for own in map(own_part, tensors))
