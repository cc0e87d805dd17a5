"""What is on disk is the owner's alone, whatever the umask says and whoever made the data directory."""

import os
import stat
from contextlib import suppress
from pathlib import Path

_OTHERS = 0o077


def keep_private() -> None:
    """Whatever this process and its children make from here on, nobody else can read."""
    os.umask(_OTHERS)


def tighten(folder: Path) -> int:
    """Take from everybody but the owner what lies in ``folder``; of how many files and folders.

    What belongs to another user, or goes meanwhile, is left.
    """
    changed = 0
    pending = [folder]
    while pending:
        path = pending.pop()
        with suppress(OSError):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                continue
            if mode & _OTHERS:
                path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
                changed += 1
            if stat.S_ISDIR(mode):
                pending.extend(path.iterdir())
    return changed


def tighten_if_open(folder: Path) -> int:
    """Likewise, unless others cannot enter the folder anyway: for processes of which many start."""
    with suppress(OSError):
        if folder.stat().st_mode & _OTHERS:
            return tighten(folder)
    return 0
