"""Where the ranks of a gang go: all of them or none, first come, first placed.

A placement group of Ray holds a bundle for each rank, or for each host where the job says on how many. Ray
itself places whatever fits first, so that small jobs could keep a large one waiting for ever: who has to wait
takes a ticket, a named actor that dies with its driver, and nobody who came later is placed before it.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainer.gang.cluster import Host, hosts

#: What is free is placed at once; whatever takes longer waits for others.
PLACED_SECONDS = 2.0
LOOK_SECONDS = 0.5
TICKET = "waiting-"


@dataclass(frozen=True)
class Wanted:
    """``ranks`` of a GPU each, or of a CPU; where the cluster has fewer in all, ``least`` will do.

    ``nodes``: on so many hosts, as many ranks on each; None: on as few as there is room on. ``beside``: as
    many more for engines of the first rank, all on one host (``nodes`` is 1). The number of ranks is one of
    ``multiple``.
    """

    ranks: int
    least: int
    nodes: int | None = None
    gpus: bool = True
    beside: int = 0
    multiple: int = 1

    @property
    def unit(self) -> str:
        """The resource of Ray's that a rank has one of."""
        return "GPU" if self.gpus else "CPU"

    def together(self, size: int) -> int:
        """How many of ``size`` ranks go together on one host."""
        if self.nodes is None:
            return 1
        return size if self.nodes == 1 else self.ranks // self.nodes

    def block(self, size: int) -> int:
        """How much they take there, with the engines beside them."""
        return self.together(size) + self.beside

    def most(self, room: list[int]) -> int:
        """How many ranks, up to those wanted, fit hosts that have ``room`` for so many each."""
        if self.nodes is None:
            most = sum(room)
        elif self.nodes == 1:
            most = max(room, default=0) - self.beside
        else:
            block = self.ranks // self.nodes
            most = sum(each >= block for each in room) * block
        return min(self.ranks, most) // self.multiple * self.multiple

    def size(self, cluster: list[Host]) -> int:
        """How many ranks to have: what the cluster has in all where that is enough, else those wanted."""
        most = self.most([host.total for host in cluster])
        return most if most >= self.least else self.ranks


@dataclass(frozen=True)
class Place:
    """Where a rank is: a bundle of the group, and the node that it was placed on."""

    bundle: int
    node: str
    host: str


def place(
    wanted: Wanted, tell: Callable[[str], None], beat: Callable[[], None], stop: threading.Event
) -> tuple[Any, list[Place]] | None:
    """The placement group, and the place of each rank, those of one host side by side; the first rank is on
    the driver's host where any is. None once ``stop`` is set.

    Args:
        tell: what is waited for, in a sentence, when that changes.
        beat: called now and then meanwhile.
    """
    import ray
    from ray.util.placement_group import remove_placement_group

    here = ray.get_runtime_context().get_node_id()
    turn = _Turn(here)
    try:
        while not stop.is_set():
            cluster = hosts(wanted.unit)
            size = wanted.size(cluster)
            if not turn.come():
                tell(_waiting(wanted, size, cluster))
                beat()
                stop.wait(LOOK_SECONDS)
                continue
            for preferred in (here, None):
                if preferred is not None and not any(
                    h.id == here and h.free >= wanted.block(size) for h in cluster
                ):
                    continue
                group = _group(wanted, size, preferred)
                began = time.monotonic()
                while not (placed := group.wait(LOOK_SECONDS)) and not stop.is_set():
                    if time.monotonic() - began < PLACED_SECONDS:
                        continue
                    if preferred is not None:
                        break  # somebody else has just taken it
                    turn.wait()
                    cluster = hosts(wanted.unit)
                    tell(_waiting(wanted, size, cluster))
                    beat()
                    if wanted.size(cluster) != size:
                        break  # a host has come or gone
                if placed:
                    if size < wanted.ranks:
                        tell(
                            f"The job continues with {size} of {wanted.ranks} {wanted.unit}s, all that the "
                            "Ray cluster has."
                        )
                    return group, _places(wanted, size, group, here)
                remove_placement_group(group)
        return None
    finally:
        turn.end()


class _Turn:
    """Whose turn it is to be placed: that of the oldest ticket, or anybody's where nobody waits."""

    def __init__(self, here: str):
        self._here = here
        self._ticket: Any = None
        self._name = ""

    def come(self) -> bool:
        """Whether it is this driver's turn; where it is not, it waits for it from now on."""
        import ray.util

        waiting = sorted(name for name in ray.util.list_named_actors() if name.startswith(TICKET))
        if not waiting or waiting[0] == self._name:
            return True
        self.wait()
        return False

    def wait(self) -> None:
        """Take a ticket, once."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if self._ticket is None:
            self._name = f"{TICKET}{time.time_ns():020d}-{os.urandom(4).hex()}"
            with_us = NodeAffinitySchedulingStrategy(self._here, soft=False)
            self._ticket = (
                ray.remote(_Ticket).options(name=self._name, num_cpus=0, scheduling_strategy=with_us).remote()
            )

    def end(self) -> None:
        """Wait no more."""
        import ray

        if self._ticket is not None:
            ray.kill(self._ticket)
            self._ticket = None


class _Ticket:
    """That a driver waits."""


def _group(wanted: Wanted, size: int, first_on: str | None) -> Any:
    from ray.util.placement_group import placement_group

    bundles = [{wanted.unit: float(wanted.block(size))} for _ in range(size // wanted.together(size))]
    where: dict[str, Any] = {}
    if first_on is not None:
        where = {"bundle_label_selector": [{"ray.io/node-id": first_on}, *({} for _ in bundles[1:])]}
    return placement_group(bundles, strategy="PACK" if wanted.nodes is None else "STRICT_SPREAD", **where)


def _places(wanted: Wanted, size: int, group: Any, here: str) -> list[Place]:
    from ray.util.placement_group import placement_group_table

    names = {host.id: host.name for host in hosts(wanted.unit)}
    nodes: dict[int, str] = placement_group_table(group)["bundles_to_node_id"]
    places = [
        Place(bundle, node, names.get(node, node))
        for bundle, node in nodes.items()
        for _ in range(wanted.together(size))
    ]
    return sorted(places, key=lambda one: (one.node != here, one.node, one.bundle))


def _waiting(wanted: Wanted, size: int, cluster: list[Host]) -> str:
    total, free = (
        wanted.most(room) + wanted.beside for room in ([h.total for h in cluster], [h.free for h in cluster])
    )
    needed = size + wanted.beside
    what = f"{needed} {wanted.unit}{'' if needed == 1 else 's'}"
    if wanted.nodes is not None and wanted.nodes > 1:
        what += f", {wanted.block(size)} on each of {size // wanted.block(size)} hosts"
    if total < needed:
        return f"The job waits for {what}: the Ray cluster has {total} in total."
    if free >= needed:
        return f"The job waits for {what}: other jobs are ahead of it."
    return f"The job waits for {what}; the largest free block is {free}."
