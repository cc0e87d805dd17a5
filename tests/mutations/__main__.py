"""``python -m tests.mutations [WORD]``: plant the faults (about WORD), run tests, print which caught them."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.mutations.faults import FAULTS, Fault

ROOT = Path(__file__).parents[2]
FAILED = re.compile(r"^FAILED tests/trainer/(\S+)", re.MULTILINE)
TIMEOUT_SECONDS = 600


def copy_project(folder: Path) -> None:
    """What the tests of the mathematics need, so that ``import trainer`` finds the copy."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "trainer", folder / "trainer", ignore=ignore)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignore)
    shutil.copy2(ROOT / "pyproject.toml", folder)


def plant(folder: Path, fault: Fault) -> None:
    """Put the fault into the copy."""
    path = folder / fault.file
    source = path.read_text()
    if source.count(fault.old) != 1:
        raise SystemExit(f"{fault.file} holds {source.count(fault.old)} times, not once: {fault.old}")
    path.write_text(source.replace(fault.old, fault.new))


def run_tests(folder: Path, names: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of pytest in the copy, on ``tests/trainer/test_<name>.py``."""
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    where = [sys.executable, "-c", "import trainer; print(trainer.__file__)"]
    found = subprocess.run(where, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    if Path(found.stdout.strip()).resolve().parents[1] != folder.resolve():
        raise SystemExit(f"the tests would import {found.stdout.strip()}, not the copy")
    # The suite's conftest loads the service's fixtures as well; these tests need the tiny model alone.
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", "--maxfail=20", "--noconftest"]
    command += ["-p", "tests.fixtures.models", "-p", "no:cacheprovider"]
    command += [f"tests/trainer/test_{name}.py" for name in names]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    return done.returncode, done.stdout + done.stderr


def caught_by(fault: Fault) -> list[str]:
    """The tests that fail with the fault in place; empty if it survives."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name)
        copy_project(folder)
        plant(folder, fault)
        code, output = run_tests(folder, fault.tests)
    failed = FAILED.findall(output)
    if code not in (0, 1) or (code == 1 and not failed):
        raise SystemExit(f"pytest itself failed with the fault in {fault.file} ({fault.why}):\n{output}")
    return failed


def main(words: Sequence[str]) -> int:
    faults = [fault for fault in FAULTS if all(word in f"{fault.subject} {fault.why}" for word in words)]
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        copy_project(Path(name))
        code, output = run_tests(Path(name), sorted({test for fault in faults for test in fault.tests}))
    if code != 0:
        print(f"the tests fail without any fault:\n{output}")
        return 1
    survivors = 0
    print("| subject | fault | line | caught by |\n|---|---|---|---|", flush=True)
    for fault in faults:
        failed = caught_by(fault)
        survivors += not failed
        tests = sorted({test.partition("[")[0] for test in failed})
        shown = "; ".join(f"`{test}`" for test in tests[:2]) or "**nothing**"
        more = f" and {len(tests) - 2} more" if len(tests) > 2 else ""
        print(f"| {fault.subject} | {fault.why} | `{fault.new}` | {shown}{more} |", flush=True)
    print(f"\n{len(faults) - survivors} of {len(faults)} faults caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
