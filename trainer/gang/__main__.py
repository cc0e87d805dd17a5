"""``python -m trainer.gang --ranks N --spec spec.json --run-dir DIR``: one run on the hosts of a Ray cluster.

This process, the driver, connects to the cluster that ``POLICYSPLIT_RAY_ADDRESS`` names, waits until all of
the ranks can be placed, looks at their hosts, and has each of them run ``python -m trainer`` with the same
arguments, joined as torchrun joins them.

Arguments, exit codes, events and signals are those of ``python -m trainer``: SIGTERM has all ranks stop at
the next step with a state to resume from, SIGUSR1 has each write its stacks. Ranks' output is this process's,
with rank and host before each line. When it dies, be it by ``kill -9``, Ray ends its actors on all hosts, and
their guards what they had started.

The run directory, data and model have to be at the same paths on all hosts.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading

from trainer.errors import ClusterFailed, TrainerError
from trainer.gang.cluster import connected
from trainer.gang.driver import OWN, Driver
from trainer.spec.run_arguments import add_run_arguments
from trainer.system import logs

_log = logging.getLogger("trainer.gang")


def main(arguments: list[str] | None = None) -> int:
    """Run the gang; returns the exit code."""
    options = options_of(arguments)
    logs.set_up("trainer", "%(message)s", logging.WARNING)
    stop, dump = threading.Event(), threading.Event()
    options.run_dir.mkdir(parents=True, exist_ok=True)
    driver = Driver(options, stop, dump)
    try:
        wanted, paths = driver.wanted(), driver.paths()
        _signals(stop, dump)
        with connected(lambda reason: os._exit(driver.fail(ClusterFailed(reason)))):
            _signals(stop, dump)  # again: Ray sets its own
            return driver.run(wanted, paths)
    except TrainerError as error:
        return driver.fail(error)
    except Exception as error:
        _log.exception("the gang failed")
        return driver.fail(ClusterFailed(f"{type(error).__name__}: {error}"))


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.gang", description="Train one run on a Ray cluster."
    )
    parser.add_argument("--ranks", type=int, required=True, help="number of processes, one GPU each")
    parser.add_argument("--min-ranks", type=int, help="minimum number if the whole cluster has no more")
    parser.add_argument(
        "--nodes",
        type=int,
        help="number of hosts, with the same number of ranks on each; default: as few as possible",
    )
    parser.add_argument("--rollout-gpus", type=int, default=0, help="GPUs that only sample; --nodes is 1")
    parser.add_argument("--tensor-parallel", type=int, default=1, help="GPUs of each engine; --nodes is 1")
    parser.add_argument("--cpu", action="store_true", help="one CPU each, without GPUs")
    add_run_arguments(parser)
    parser.add_argument(
        "--trainer",
        type=json.loads,
        default=OWN,
        help="command that the hosts run, as a JSON list; default: python -m trainer",
    )
    return parser.parse_args(arguments)


def _signals(stop: threading.Event, dump: threading.Event) -> None:
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGUSR1, lambda *_: dump.set())


if __name__ == "__main__":
    sys.exit(main())
