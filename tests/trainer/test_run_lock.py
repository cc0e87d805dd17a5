"""One trainer a run folder: the newest attempt's, whatever the older one does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.errors import RunDirBusy
from trainer.system.run_lock import sole_trainer

HOLDER = """
import os, sys, threading
from pathlib import Path
from trainer.system.run_lock import sole_trainer
with sole_trainer(Path(sys.argv[1]), int(sys.argv[2]), lambda: os._exit(9)):
    print("held", flush=True)
    threading.Event().wait()
"""


def hold(folder: Path, attempt: int) -> subprocess.Popen[str]:
    """A process that holds the folder as ``attempt``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(attempt)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_an_older_attempt_ends_when_a_newer_one_comes(tmp_path: Path) -> None:
    old = hold(tmp_path, 1)
    with sole_trainer(tmp_path, 2, lambda: None):
        assert old.wait(0) == 9, "it had ended before the newer one went on"
        with (
            pytest.raises(RunDirBusy, match="attempt 2 has started"),
            sole_trainer(tmp_path, 1, lambda: None),
        ):
            pass
    old.communicate()


def test_a_frozen_attempt_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.system.run_lock.FREEZE_SECONDS", 0.5)
    old = hold(tmp_path, 1)
    os.kill(old.pid, signal.SIGSTOP)
    with sole_trainer(tmp_path, 2, lambda: None):
        assert old.wait(5) == -signal.SIGKILL
    old.communicate()


def test_of_two_started_by_hand_the_first_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.system.run_lock.FREEZE_SECONDS", 0.1)
    monkeypatch.setattr("trainer.system.run_lock.PATIENCE_SECONDS", 0.5)
    first = hold(tmp_path, 0)
    with pytest.raises(RunDirBusy, match="another trainer is using"), sole_trainer(tmp_path, 0, lambda: None):
        pass
    assert first.poll() is None
    first.kill()
    first.communicate()
    with sole_trainer(tmp_path, 0, lambda: None):
        pass
