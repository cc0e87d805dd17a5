"""The end of a process with everything that it started, this one or another (torch-free)."""

import contextlib
import os
import signal
from pathlib import Path


def end_group() -> None:
    """Kill this process, and its process group where it leads one; does not return."""
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_group(leader: int, started: str) -> None:
    """Kill what is left of the group that a process led which began at ``started``; no other one.

    The leader may have ended: the system gives its number to no new process while its group has members. So
    a process that has the number, but began at another time, tells that the group is gone.
    """
    if start_time(leader) in ("", started):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def start_time(pid: int) -> str:
    """Tells a process from a later one with its id; empty where there is none, or the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
