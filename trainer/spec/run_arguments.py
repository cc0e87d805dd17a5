"""The arguments that name a run: the same for a trainer and for the driver of a gang, which hands them on."""

import argparse
from pathlib import Path


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """``--spec``, ``--run-dir``, ``--events`` and ``--attempt``."""
    parser.add_argument("--spec", type=Path, required=True, help="the run's specification, JSON")
    parser.add_argument(
        "--run-dir", type=Path, required=True, help="directory for events, checkpoints and state"
    )
    parser.add_argument(
        "--events", default="events.jsonl", help="name of the events file in the run directory"
    )
    parser.add_argument(
        "--attempt",
        type=int,
        default=0,
        help="if several trainers use a run directory, the one with the highest attempt continues",
    )
