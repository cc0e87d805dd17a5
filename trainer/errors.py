"""Why a run cannot go on, as an error tree (torch-free)."""


class TrainerError(Exception):
    """The run cannot go on. ``code`` is machine-readable; ``param`` names the part of the spec at fault."""

    code = "trainer_error"

    def __init__(self, message: str, param: str | None = None):
        super().__init__(message)
        self.param = param


class InvalidSpec(TrainerError):
    """The spec asks for something that this model or data cannot give."""

    code = "invalid_spec"


class EngineFailed(Exception):
    """The rollout engine ended in the middle of the run, which may be resumed."""

    code = "engine_failed"


class GuardTripped(TrainerError):
    """Training diverged; going on would waste the machine."""

    code = "training_diverged"


class GraderFailed(TrainerError):
    """The grader gave no reward for any response of a step."""

    code = "grader_failed"


class RankLost(TrainerError):
    """Another of the processes that train the run together has failed or died."""

    code = "rank_lost"


class RankOutOfMemory(RankLost):
    """One of the processes that train the run together has no memory left."""

    code = "out_of_memory"


class HostLost(RankLost):
    """A host that some of the processes ran on is gone."""

    code = "host_lost"


class ClusterFailed(TrainerError):
    """The cluster that is to train the run, or one of its hosts, is not fit for it as it is."""

    code = "cluster_failed"


def rank_lost(reason: str) -> RankLost:
    """The error for why another rank has ended, by its own words."""
    of_memory = "OutOfMemoryError" in reason or "MemoryError" in reason or "out of memory" in reason
    return RankOutOfMemory(reason) if of_memory else RankLost(reason)


class ZeroVariance(TrainerError):
    """The grader gives every response to a prompt the same reward: there is nothing to learn."""

    code = "zero_variance"


class RunDirBusy(Exception):
    """Another trainer works in the run directory; this attempt is not, or no longer, the one that counts."""

    code = "run_dir_busy"


class DiskFull(TrainerError):
    """There is no room for what the run writes; it resumes from its last state when there is."""

    code = "disk_full"
