"""Whether there is space on the disk. A job without space waits for it; that is not the job's fault."""

import contextlib
import errno
import shutil
from pathlib import Path

from app.core.settings import Settings

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def no_room(error: OSError) -> bool:
    """Whether a full disk, or a quota, is behind the error."""
    return error.errno in _NO_ROOM


def folder_bytes(folder: Path) -> int:
    """What a folder takes on the disk, as far as it stays the same meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total


def lacks_room(folder: Path, settings: Settings) -> bool:
    """Whether the disk of ``folder`` has less room than is kept free."""
    try:
        return shutil.disk_usage(folder).free < settings.disk_reserve_bytes
    except OSError:
        return False
