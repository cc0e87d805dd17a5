"""A Ray cluster as the driver of a gang sees it: connecting to it, its hosts, and what is free on them.

The driver's host has to be one of its nodes (``ray start --address=… --num-cpus=0`` makes it one that has
nothing to offer). Ray's client (``ray://``) would spare that, but its server keeps a driver's actors for half
a minute after the driver was killed, which is half a minute of two attempts at one run.
"""

import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from trainer.errors import ClusterFailed, InvalidSpec

ADDRESS = "POLICYSPLIT_RAY_ADDRESS"
#: In Ray, where names of actors are one's own.
NAMESPACE = "policysplit"
CONNECT_SECONDS = 10.0
#: To join it; Ray itself tries for ever where something answers that is not, or no longer, a cluster.
JOIN_SECONDS = 60.0


@dataclass(frozen=True)
class Host:
    """A node of the cluster, and how many ranks it can hold: in all, and now."""

    id: str
    name: str
    total: int
    free: int


@contextmanager
def connected(give_up: Callable[[str], NoReturn]) -> Iterator[None]:
    """To the cluster at :data:`ADDRESS` within the block; what was started on it ends with the block.

    Args:
        give_up: called from a thread when it cannot be joined in time; ends this process.

    Raises InvalidSpec where nothing says which cluster or Ray is not installed, and ClusterFailed where the
    cluster cannot be joined.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise InvalidSpec(
            "ray is not installed here: install the extra policysplit[ray] where the worker runs, or give "
            "the job launcher 'local' or 'torchrun'"
        ) from None
    address = os.environ.get(ADDRESS, "")
    try_to_reach(address)
    slow = f"the Ray cluster at {address} could not be joined within {JOIN_SECONDS:.0f} s: does it run?"
    watch = threading.Timer(JOIN_SECONDS, give_up, (slow,))
    watch.daemon = True
    watch.start()
    try:
        # Ray 2.60 has actors import from the folder that the driver is in, before all else: an empty one.
        with tempfile.TemporaryDirectory() as empty, chdir(empty):
            ray.init(address, namespace=NAMESPACE, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:
        raise ClusterFailed(
            f"the Ray cluster at {address} cannot be joined from {socket.gethostname()}: {_line(error)} "
            "(this host must be one of its nodes, with the same versions of ray and Python: ray start "
            f"--address={address} --num-cpus=0)"
        ) from error
    finally:
        watch.cancel()
    try:
        yield
    finally:
        ray.shutdown()


def hosts(unit: str) -> list[Host]:
    """The living nodes, by what they have of ``unit``: GPU or CPU, one a rank."""
    import ray

    # Ray 2.60 has what is free on each node in this place alone; its state API wants the dashboard.
    from ray._private.state import available_resources_per_node

    free: dict[str, dict[str, float]] = available_resources_per_node()
    return [
        Host(
            id=node["NodeID"],
            name=name_of(node),
            total=int(node["Resources"].get(unit, 0)),
            free=int(free.get(node["NodeID"], {}).get(unit, 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def name_of(node: dict[str, Any]) -> str:
    """What people know a node by: its host's name, with its own where it was given one."""
    host, own = node["NodeManagerHostname"], node["NodeName"]
    return host if own in ("", host, node["NodeManagerAddress"]) else f"{host} ({own})"


def is_alive(node_id: str) -> bool:
    """Whether the cluster has not lost the node."""
    import ray

    return any(node["Alive"] for node in ray.nodes() if node["NodeID"] == node_id)


def try_to_reach(address: str) -> None:
    """Raise ClusterFailed, or InvalidSpec: Ray itself tries for minutes, and may end the process."""
    expected = f"give the address of a Ray cluster's head, host:port, in {ADDRESS}"
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise InvalidSpec(f"{ADDRESS} is {repr(address) if address else 'not set'}: {expected}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterFailed(f"the Ray cluster at {address} cannot be reached: {error}") from error


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
