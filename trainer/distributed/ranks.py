"""The processes that train one run together, and what they do together.

``trainer.distributed.launch`` starts them, or ``torchrun -m trainer``.

Every rank knows every group. What is split: weights (``trainer.distributed.sharding``; or each rank has them
all), responses to sample, micro-batches to train on, groups to measure. Gradients are summed and metrics
merged in the order of ranks, so all ranks go on with the same numbers and the same weights. What is done once
(grading, writing) is done by the first rank, and the others learn what came of it.

Collective operations must be called by all ranks in the same order. When one fails,
``trainer.distributed.peer_monitor`` ends the others.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.distributed.peer_monitor import PeerMonitor, connect, host_name
from trainer.errors import InvalidSpec, RankLost, TrainerError, rank_lost

T = TypeVar("T")

#: The longest that ranks wait for one that lives: it may be grading, evaluating, or writing a checkpoint.
PATIENCE = timedelta(hours=2)
#: Gradients are summed this many bytes at a time.
BUCKET_BYTES = 64 << 20


class Ranks:
    """One process alone: nothing is split, nothing has to be told."""

    world = 1
    rank = 0
    #: For what a thread does beside the training: collective operations of one group have one order.
    beside: "dist.ProcessGroup | None" = None

    @property
    def first(self) -> bool:
        """Whether this process grades and writes."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of what all ranks have: contiguous, and as large as the others' to one item."""
        return self.shares(items)[self.rank]

    def shares(self, items: Sequence[T]) -> list[Sequence[T]]:
        """Every rank's."""
        ends = [len(items) * i // self.world for i in range(self.world + 1)]
        return [items[start:end] for start, end in pairwise(ends)]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of ranks; collective. Tensors in it are to be on the CPU."""
        return [value]

    def any(self, value: bool) -> bool:
        """Whether it is so on any rank; collective."""
        return any(self.gather(value))

    def from_first(self, make: Callable[[], T]) -> T:
        """What ``make`` gives on the first rank, which alone calls it; collective.

        A TrainerError of its is raised on all ranks.
        """
        return make()

    def on_first(self, make: Callable[[], T], elsewhere: Callable[[], T]) -> T:
        """What the first rank makes, kept there, and a stand-in on the others; collective.

        A TrainerError of its is raised on all ranks.
        """
        made: list[T] = []
        self.from_first(lambda: made.append(make()))
        return made[0] if self.first else elsewhere()

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over ranks; collective. All have one dtype and device."""


ALONE = Ranks()


class JoinedRanks(Ranks):
    """Several processes, joined by ``join_ranks``."""

    def __init__(self, monitor: PeerMonitor):
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._monitor = monitor
        beside = dist.new_group(backend="gloo", timeout=PATIENCE)
        assert isinstance(beside, dist.ProcessGroup)
        self.beside = beside

    def lost(self) -> RankLost | None:
        """Why another rank has ended, if one has within the grace period."""
        reason = self._monitor.reason()
        return None if reason is None else rank_lost(reason)

    def gather(self, value: T) -> list[T]:
        values: list[T | None] = [None] * self.world
        with self._joint():
            dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def from_first(self, make: Callable[[], T]) -> T:
        told: list[tuple[T | None, TrainerError | None]] = [(None, None)]
        if self.first:
            try:
                told = [(make(), None)]
            except TrainerError as error:
                told = [(None, error)]
        with self._joint():
            dist.broadcast_object_list(told, src=0)
        value, error = told[0]
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        for bucket in _buckets(tensors):
            together = torch.cat([tensor.reshape(-1) for tensor in bucket])
            with self._joint():
                dist.all_reduce(together)
            parts = together.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    @contextmanager
    def _joint(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:  # a RuntimeError as well, but this rank's own
            raise
        except RuntimeError as error:  # what gloo and NCCL raise when a peer is gone
            raise rank_lost(self._monitor.reason() or f"a collective operation failed: {error}") from error


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        bucket.append(tensor)
        size += tensor.numel() * tensor.element_size()
        if size >= BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


@contextmanager
def _told_of_losses(ranks: JoinedRanks) -> Iterator[None]:
    """Collective operations that torch makes by itself, of shards, fail as those of ``Ranks`` do."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        lost = ranks.lost()
        if lost is None:
            raise
        raise lost from error


@contextmanager
def join_ranks(on_lost: Callable[[str], None]) -> Iterator[Ranks]:
    """The ranks that torchrun started together with this process, or this one alone.

    Each takes the GPU of its local rank; without GPUs they compute on the CPU.

    Args:
        on_lost: ends this process, given the reason, when another has ended and this one does not notice.

    Raises InvalidSpec when there are more local ranks than GPUs, and RankLost when another one fails.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    backend = "gloo"
    if torch.cuda.is_available():
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise InvalidSpec(f"there is no GPU for local rank {local}: this machine has {gpus}")
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)
    monitor = connect(dist.get_rank(), dist.get_world_size(), on_lost)
    ranks = JoinedRanks(monitor)
    try:
        with _told_of_losses(ranks):
            yield ranks
    except BaseException as error:
        who = f"rank {dist.get_rank()} on {host_name()}"
        monitor.close(f"{who} failed: {type(error).__name__}: {error}")
        raise
    monitor.close()
    dist.destroy_process_group()
