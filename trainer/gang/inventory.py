"""``python -m trainer.gang.inventory [--cpu]``: what the hosts of the Ray cluster have, a JSON list.

It asks the cluster's head and joins nothing, so that a worker may ask again and again.
"""

import argparse
import json
import os
import sys

from trainer.errors import TrainerError
from trainer.gang.cluster import ADDRESS, try_to_reach

ANSWER_SECONDS = 10.0


def main(arguments: list[str] | None = None) -> int:
    """Print it; 1 with the reason on standard error where the cluster does not say."""
    parser = argparse.ArgumentParser(prog="python -m trainer.gang.inventory")
    parser.add_argument("--cpu", action="store_true", help="count CPUs, not GPUs")
    unit = "CPU" if parser.parse_args(arguments).cpu else "GPU"
    try:
        # Not public, but what Ray's own command line asks with; the public calls join the cluster.
        from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]  # compiled
    except ModuleNotFoundError:
        print("ray is not installed: install the extra policysplit[ray]", file=sys.stderr)
        return 1
    try:
        address = os.environ.get(ADDRESS, "")
        try_to_reach(address)
        nodes = GcsClient(address=address).get_all_node_info(timeout=ANSWER_SECONDS).values()
    except TrainerError as error:
        print(error, file=sys.stderr)
        return 1
    alive = [node for node in nodes if node.state == type(node).ALIVE]
    has = [int(node.resources_total.get(unit, 0)) for node in alive]
    print(json.dumps(sorted((number for number in has if number), reverse=True)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
