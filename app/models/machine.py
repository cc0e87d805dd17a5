"""What this machine has, and what models need of it, about: an estimate of a job measures it."""

import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import psutil

from app.core.settings import get_settings

QUERY_SECONDS = 10.0
#: Beside what grows with the model: the interpreter, its libraries, a batch's activations.
_BASE_BYTES = 2 << 30
#: Bytes a parameter: bfloat16 weights; to train them all float32 masters, two moments and gradients, too.
_ASKED, _TRAINED, _TRAINED_BY_ADAPTER = 2.2, 18.0, 2.6

Fits = Literal["training", "adapters", "asking", "nothing"]


@dataclass(frozen=True)
class Machine:
    """The memory that a model has here: the largest GPU's, else the machine's own."""

    device: str
    memory_bytes: int
    free_disk_bytes: int


@dataclass(frozen=True)
class Needs:
    """Memory in bytes that a model takes, about."""

    asking: int
    adapters: int
    training: int

    def fits(self, memory: int) -> Fits:
        """The most that can be done with the model in that much memory."""
        if self.training <= memory:
            return "training"
        if self.adapters <= memory:
            return "adapters"
        return "asking" if self.asking <= memory else "nothing"


def needs(parameters: int) -> Needs:
    """Of a model with so many parameters."""
    return Needs(
        asking=int(parameters * _ASKED) + _BASE_BYTES // 2,
        adapters=int(parameters * _TRAINED_BY_ADAPTER) + _BASE_BYTES,
        training=int(parameters * _TRAINED) + _BASE_BYTES,
    )


def machine() -> Machine:
    """This one."""
    name, memory = _gpu() or ("cpu", psutil.virtual_memory().total)
    folder = get_settings().models_dir
    place = next(one for one in (folder, *folder.parents) if one.exists())
    return Machine(name, memory, shutil.disk_usage(place).free)


@lru_cache(maxsize=1)
def _gpu() -> tuple[str, int] | None:
    """Name and bytes of the largest GPU; None where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=memory.total,name", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):  # a driver without a device
        return None
    found = [line.partition(",") for line in told.stdout.splitlines()]
    sizes = [(name.strip(), int(size) << 20) for size, _, name in found if size.strip().isdigit()]
    return max(sizes, key=lambda one: one[1], default=None)
