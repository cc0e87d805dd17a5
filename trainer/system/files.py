"""Files and folders that exist whole or not at all, whatever instant the process dies at (torch-free)."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: In the names of what is being written, before the writer's process id.
TEMPORARY = ".tmp-"


@contextmanager
def atomic_file(target: Path, *, mode: int = 0o666, first_stays: bool = False) -> Iterator[Path]:
    """An empty file beside ``target``; after the block it is synced and takes the name.

    An older ``target`` is replaced or, where the ``first_stays``, is left as it is. ``mode``: less what the
    umask takes away. On an exception the temporary file is removed.
    """
    temporary = _beside(target)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode))
    try:
        yield temporary
        if not first_stays:
            put_in_place(temporary, target)
            return
        sync(temporary)
        with suppress(FileExistsError):
            target.hardlink_to(temporary)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(target: Path, content: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_file(target) as temporary:
        temporary.write_text(content)


def put_in_place(temporary: Path, target: Path) -> None:
    """Give a file that is written the name ``target``, durably. Both are in one file system."""
    sync(temporary)
    temporary.replace(target)
    sync(target.parent)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target``; after the block its files are synced and it takes the name.

    An older ``target`` is replaced. On an exception the temporary folder is removed.
    """
    temporary = _beside(target)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if not path.is_symlink():
                sync(path)
        sync(temporary)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_at_once(folder: Path, gone: Path) -> None:
    """Take a folder's name away, and then remove it as ``gone``: whoever looks finds all of it or nothing."""
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def sync(path: Path) -> None:
    """Return once a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}{TEMPORARY}{os.getpid()}-{threading.get_ident()}")


def give_name(path: Path, name: str) -> None:
    """Another name for a file of a folder that is not in place yet."""
    path.rename(path.with_name(name))
