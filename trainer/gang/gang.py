"""The ranks of a run on the hosts of a Ray cluster, from their start to their common end.

Actors of our own, and not Ray Train's TorchTrainer: that one has a controller which starts workers again,
stores what they report and decides when a run has failed, all of which the service's attempts, leases and
states do already, and it has no place for what an attempt needs (stop after this step, stacks now, this exit
code, the lines of each rank). What is left of it to use is placing and the rendezvous, which are a few lines;
and Ray's core alone is a third of its dependencies.
"""

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.distributed.peer_monitor import GRACE_SECONDS, HOST
from trainer.errors import ClusterFailed
from trainer.gang.checks import check_hosts, clock_warnings
from trainer.gang.cluster import is_alive
from trainer.gang.placement import Place, Wanted
from trainer.gang.rank import RankHost, facts

#: For actors to be there: Python starts, and Ray is imported.
START_SECONDS = 120.0
LOOK_SECONDS = 0.2
#: From the end of one rank to that of all: they notice by themselves, and tell why they end.
ENDING_SECONDS = 2 * GRACE_SECONDS + 4.0
#: Ray knows that an actor is gone before it says that its node is.
NODE_SECONDS = 5.0
#: What is cut off for less may come back.
SILENT_SECONDS = 24.0


@dataclass(frozen=True)
class Lost:
    """Why a rank's actor is gone, and whether its host is."""

    reason: str
    host: bool


@dataclass(frozen=True)
class End:
    """How the ranks ended: exit codes, None of those lost with their actor, and who was lost first."""

    codes: list[int | None]
    lost: Lost | None
    first_host: str


class Gang:
    """Actors on the bundles of a placement group."""

    def __init__(self, group: Any, places: list[Place], wanted: Wanted):
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self._places, self._gpus = places, wanted.gpus
        self._silent: dict[int, float] = {}
        """Ranks that do not answer, and since when."""
        self._gone: set[int] = set()
        """Ranks that never will."""
        actor: Any = ray.remote(RankHost)
        takes = [1 + wanted.beside, *(1 for _ in places[1:])]
        self._actors = [
            actor.options(
                num_gpus=its if wanted.gpus else 0,
                num_cpus=0 if wanted.gpus else its,
                max_concurrency=4,  # following, and what is asked meanwhile
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    group, placement_group_bundle_index=place.bundle
                ),
            ).remote()
            for place, its in zip(places, takes, strict=True)
        ]

    @property
    def hosts(self) -> dict[str, str]:
        """Names of the hosts, by node, in the order of ranks."""
        return {place.node: place.host for place in self._places}

    @property
    def described(self) -> str:
        """Which ranks are where."""
        ranks: dict[str, list[str]] = {}
        for rank, place in enumerate(self._places):
            ranks.setdefault(place.node, []).append(str(rank))
        return "; ".join(f"{self.hosts[node]}: {', '.join(numbers)}" for node, numbers in ranks.items())

    def examine(self, token: Path, paths: list[str], warn: Callable[[str], None]) -> None:
        """Raise ClusterFailed unless all hosts are fit (``trainer.gang.checks``)."""
        first = {place.node: rank for rank, place in reversed(list(enumerate(self._places)))}
        asked = time.time()
        found = self._ask({rank: self._actors[rank].examine.remote(token, paths) for rank in first.values()})
        # The answer is of a moment after the question and before now: which is the host's clock's own affair.
        now = time.time()
        named = {self._places[rank].host: value for rank, value in found.items()}
        check_hosts(facts(token, paths), named, token.parent)
        skews = {
            name: max(0.0, host.time - now) + min(0.0, host.time - asked) for name, host in named.items()
        }
        for warning in clock_warnings(skews):
            warn(warning)

    def start(self, command: list[str], environment: dict[str, str]) -> None:
        """Start all trainers, joined as torchrun joins them. Raises ClusterFailed."""
        world = range(len(self._actors))
        address, port = self._ask({0: self._actors[0].address.remote()})[0]
        gpus = self._ask({rank: self._actors[rank].gpus.remote() for rank in world})
        shared = {"WORLD_SIZE": str(len(world)), "MASTER_ADDR": address, "MASTER_PORT": str(port)}
        starting: dict[int, Any] = {}
        for rank in world:
            beside = [other for other in world if self._places[other].node == self._places[rank].node]
            own = {
                "RANK": str(rank),
                "LOCAL_RANK": str(beside.index(rank)),
                "LOCAL_WORLD_SIZE": str(len(beside)),
                # As with torchrun each sees those of all ranks beside it: NCCL copies between them directly.
                "CUDA_VISIBLE_DEVICES": visible([gpus[other] for other in beside]) if self._gpus else "",
                HOST: self._places[rank].host,
            }
            starting[rank] = self._actors[rank].start.remote(command, environment | shared | own)
        self._ask(starting)

    def follow(self, stop: threading.Event, dump: threading.Event) -> End:
        """Print what ranks print until all have ended.

        Args:
            stop: have them stop at the next step; may be set before.
            dump: have each write its stacks into the run directory.
        """
        import ray
        from ray.exceptions import RayError

        codes: list[int | None] = [None] * len(self._actors)
        followed: dict[Any, int] = {actor.follow.remote(): rank for rank, actor in enumerate(self._actors)}
        lost: Lost | None = None
        asked, until = False, float("inf")
        while followed and time.monotonic() < until:
            ready, _ = ray.wait(list(followed), num_returns=len(followed), timeout=LOOK_SECONDS)
            for answer in ready:
                rank = followed.pop(answer)
                try:
                    lines, codes[rank] = ray.get(answer)
                except RayError as error:
                    if (missed := self._missed(rank, error)) is None:
                        time.sleep(LOOK_SECONDS)  # it fails at once
                    else:
                        lost = lost or missed
                        self._print(rank, [missed.reason])
                        continue
                else:
                    self._silent.pop(rank, None)
                    self._print(rank, lines)
                if codes[rank] is None:
                    followed[self._actors[rank].follow.remote()] = rank
            if until == float("inf") and not asked and (len(followed) < len(codes) or self._silent):
                until = time.monotonic() + ENDING_SECONDS
            if stop.is_set() and not asked:
                asked, until = True, float("inf")
                self._ask_all("stop")
            if dump.is_set():
                dump.clear()
                self._ask_all("dump")
        for rank, since in self._silent.items():
            # Ray's head asks a host several times before it counts as lost.
            while is_alive(self._places[rank].node) and time.monotonic() - since < SILENT_SECONDS:
                time.sleep(LOOK_SECONDS)
            lost = lost or self._lost(rank, f"it has not answered for {SILENT_SECONDS:.0f} s")
        return End(codes, lost, self._places[0].host)

    def end(self) -> None:
        """Kill the actors: what is left of their trainers goes with them."""
        import ray

        for actor in self._actors:
            ray.kill(actor)

    def _ask_all(self, method: str) -> None:
        for rank, actor in enumerate(self._actors):
            if rank not in self._gone:
                getattr(actor, method).remote()

    def _ask(self, answers: dict[int, Any]) -> dict[int, Any]:
        """What the ranks answer. Raises ClusterFailed, naming the host of one that cannot."""
        import ray
        from ray.exceptions import GetTimeoutError

        told: dict[int, Any] = {}
        deadline = time.monotonic() + START_SECONDS
        for rank, answer in answers.items():
            host = self._places[rank].host
            try:
                told[rank] = ray.get(answer, timeout=max(1.0, deadline - time.monotonic()))
            except GetTimeoutError:
                raise ClusterFailed(
                    f"{host} has not started rank {rank} within {START_SECONDS:.0f} s"
                ) from None
            except Exception as error:  # Ray raises what the actor raised, and errors of its own
                if "No module named" in str(error):
                    extras = "the extras policysplit[trainer,ray]"
                    text = f"policysplit is not installed on {host}: install {extras} there"
                    raise ClusterFailed(text) from error
                raise ClusterFailed(f"rank {rank} could not be started on {host}: {_line(error)}") from error
        return told

    def _missed(self, rank: int, error: Exception) -> Lost | None:
        """What a rank that does not answer comes to; None: it is to be asked again."""
        from ray.exceptions import ActorUnavailableError

        since = self._silent.setdefault(rank, time.monotonic())
        patience = NODE_SECONDS if "node" in str(error) else 0.0
        if isinstance(error, ActorUnavailableError):
            patience = SILENT_SECONDS
        if time.monotonic() - since < patience and is_alive(self._places[rank].node):
            return None
        del self._silent[rank]
        self._gone.add(rank)
        return self._lost(rank, _line(error))

    def _lost(self, rank: int, why: str) -> Lost:
        place = self._places[rank]
        if is_alive(place.node):
            return Lost(f"rank {rank} on {place.host} was lost: {why}", host=False)
        return Lost(f"the host {place.host} was lost (node {place.node[:12]} of the Ray cluster)", host=True)

    def _print(self, rank: int, lines: list[str]) -> None:
        name = f"[rank {rank}, {self._places[rank].host}] "
        sys.stdout.write("".join(f"{name}{line}\n" for line in lines))
        sys.stdout.flush()


def visible(names: list[str]) -> str:
    """The GPUs of ranks of one host as each of them sees them: those that train, then those of engines."""
    each = [one.split(",") for one in names]
    return ",".join([*(one[0] for one in each), *(name for one in each for name in one[1:])])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__
