"""The statuses of a job, and from which to which it may go."""

from enum import StrEnum


class JobStatus(StrEnum):
    """OpenAI's statuses and our two for pausing."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S = JobStatus

#: From each status, where a job may go. A new job's files are validated at once; its grader is when its turn
#: comes: ``queued → validating_files → running`` (``worker.jobs.preflight_status``). From one of these two to
#: ``queued``: its worker was lost, or is shutting down.
TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    _S.VALIDATING_FILES: frozenset({_S.QUEUED, _S.RUNNING, _S.PAUSING, _S.FAILED, _S.CANCELLED}),
    _S.QUEUED: frozenset({_S.VALIDATING_FILES, _S.RUNNING, _S.PAUSED, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.QUEUED, _S.PAUSING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.PAUSING: frozenset({_S.PAUSED, _S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.PAUSED: frozenset({_S.QUEUED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}
TERMINAL = frozenset(status for status, targets in TRANSITIONS.items() if not targets)
#: A worker holds the job's lease in these. (A job that is being created is in none that others can see.)
HELD = frozenset({_S.VALIDATING_FILES, _S.RUNNING, _S.PAUSING})


def is_terminal(status: str) -> bool:
    return status in TERMINAL
