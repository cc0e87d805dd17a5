"""From a spec to the run that does it."""

import threading
from pathlib import Path

from trainer.base_run import BaseRun
from trainer.checkpoints.run_folder import RunFolder
from trainer.distributed.ranks import ALONE, Ranks
from trainer.graders.custom import RewardFunction
from trainer.loop import Run
from trainer.spec.events import EventWriter
from trainer.spec.run import RunSpec
from trainer.spec.taught import Taught
from trainer.taught import TaughtRun


def build_run(
    spec: RunSpec,
    run_dir: Path,
    events: EventWriter,
    stop: threading.Event | None = None,
    reward: RewardFunction | None = None,
    ranks: Ranks = ALONE,
    folder: RunFolder | None = None,
) -> BaseRun:
    """Load everything. Raises InvalidSpec for a spec that cannot work."""
    if isinstance(spec.algorithm, Taught):
        return TaughtRun(spec, run_dir, events, stop, ranks, folder)
    return Run(spec, run_dir, events, stop, reward, ranks, folder)
