"""Which GPUs of the machine a worker may use, and how its slots divide them.

Known without torch: from ``POLICYSPLIT_GPUS``, else ``CUDA_VISIBLE_DEVICES``, else ``nvidia-smi``.
"""

import os
import shutil
import subprocess

from app.core.settings import Settings

QUERY_SECONDS = 30.0


class TooFewGpus(ValueError):
    """There are more slots than GPUs, and they are not to be shared."""


def inventory(settings: Settings) -> list[str]:
    """The GPUs that the worker may use, as CUDA names them; empty where there are none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES") if settings.gpus is None else settings.gpus
    return _installed() if named is None else [one.strip() for one in named.split(",") if one.strip()]


def memory(settings: Settings) -> int:
    """Bytes of the smallest of these GPUs; 0 where it is not known."""
    return min(memories(settings), default=0)


def memories(settings: Settings) -> list[int]:
    """Bytes of each of these GPUs, as far as the driver says."""
    named = [] if settings.gpus is None and "CUDA_VISIBLE_DEVICES" not in os.environ else inventory(settings)
    rows = [line.split(", ") for line in _asked("index,uuid,memory.total", "nounits")]
    found = [size for *names, size in rows if not named or set(names) & set(named)]
    return [int(size) << 20 for size in found if size.isdigit()]


def _installed() -> list[str]:
    return _asked("uuid")


def _asked(fields: str, *form: str) -> list[str]:
    """What the driver says of each GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={fields}", "--format=" + ",".join(("csv", "noheader", *form))]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):  # a driver without a device
        return []
    return [line.strip() for line in told.stdout.splitlines() if line.strip()]


def shares(gpus: list[str], slots: int, share: bool) -> list[tuple[str, ...]]:
    """The GPUs of each slot: as many for each, those that are left over for the first. Raises TooFewGpus."""
    if not gpus:
        return [()] * slots
    if slots <= len(gpus):
        return [tuple(gpus[slot::slots]) for slot in range(slots)]
    if not share:
        raise TooFewGpus(
            f"POLICYSPLIT_WORKER_SLOTS is {slots}, but there are {len(gpus)} GPUs here "
            f"({', '.join(gpus)}): give at most {len(gpus)} slots, or set POLICYSPLIT_GPU_SHARE=true to "
            "let jobs share them"
        )
    return [(gpus[slot % len(gpus)],) for slot in range(slots)]
