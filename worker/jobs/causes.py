"""Why attempts end: a word for each cause, as the API shows it."""

import signal
from enum import StrEnum
from pathlib import Path

from trainer.spec.events import Failed, Finished, Stopped


class Cause(StrEnum):
    """Why an attempt ended."""

    FINISHED = "finished"
    USER = "user"
    """Cancelled or paused, also by a budget."""
    SHUTDOWN = "shutdown"
    """Its worker was stopped."""
    LOST_HOST = "lost_host"
    """Its worker was not heard of any more, or a host of the Ray cluster that it ran on."""
    OUT_OF_MEMORY = "out_of_memory"
    GRADER = "grader"
    ENGINE = "engine"
    SIGNAL = "signal"
    LOST_RANK = "lost_rank"
    """One of the processes that trained together failed or died; the message names it and its host."""
    STALLED = "stalled"
    DISK_FULL = "disk_full"
    INVALID = "invalid"
    """The job asks for what cannot work."""
    DIVERGED = "diverged"
    ERROR = "error"


_BY_CODE = {
    "out_of_memory": Cause.OUT_OF_MEMORY,
    "grader_failed": Cause.GRADER,
    "zero_variance": Cause.GRADER,
    "engine_failed": Cause.ENGINE,
    "disk_full": Cause.DISK_FULL,
    "rank_lost": Cause.LOST_RANK,
    "invalid_spec": Cause.INVALID,
    "host_lost": Cause.LOST_HOST,
    "training_diverged": Cause.DIVERGED,
}
#: ``python -m trainer`` with a disk too full even for its last event.
EXIT_DISK_FULL = 74


def cause_of(end: Finished | Stopped | Failed | None, exit_code: int, killed_for_memory: bool) -> Cause:
    """The cause by the trainer's last event, or by its exit."""
    if isinstance(end, Finished):
        return Cause.FINISHED
    if isinstance(end, Failed):
        if end.code == "rank_lost" and killed_for_memory:
            return Cause.OUT_OF_MEMORY
        return _BY_CODE.get(end.code, Cause.ERROR)
    if exit_code == EXIT_DISK_FULL:
        return Cause.DISK_FULL
    if exit_code < 0:
        memory = killed_for_memory and -exit_code == signal.SIGKILL
        return Cause.OUT_OF_MEMORY if memory else Cause.SIGNAL
    return Cause.ERROR


def memory_kills() -> int:
    """How many processes this machine has killed for want of memory since it was started; 0 if unknown."""
    try:
        fields = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return int(fields.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0
