"""How much memory a process can have on this host. Torch-free."""

from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def host_memory() -> int:
    """Bytes: the host's with its swap, or what the process's control group is limited to."""
    whole = psutil.virtual_memory().total + psutil.swap_memory().total
    try:
        limit, swap = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.swap.max"))
    except OSError:  # another system, or the host's own group
        return whole
    return min(whole, int(limit) + int(swap)) if limit.isdigit() and swap.isdigit() else whole
