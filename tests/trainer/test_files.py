"""What is written is there whole or not at all, in one place for all of the code."""

import re
import stat
from pathlib import Path

import pytest

from trainer.system.files import atomic_file, atomic_folder, write_atomically


def test_a_file_appears_whole_and_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    write_atomically(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_of_two_secrets_stays_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for text in ("first", "second"):
        with atomic_file(path, mode=0o600, first_stays=True) as temporary:
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
            temporary.write_text(text)
    assert path.read_text() == "first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_and_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "step-1"
    with atomic_folder(path) as temporary:
        (temporary / "old").touch()
    with pytest.raises(RuntimeError), atomic_folder(path) as temporary:
        raise RuntimeError
    assert (path / "old").exists()
    with atomic_folder(path) as temporary:
        (temporary / "new").touch()
    assert [one.name for one in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_files_are_put_in_place_in_one_place() -> None:
    """Logs that are turned over and files that follow their own protocol aside."""
    root = Path(__file__).parents[2]
    moving = re.compile(r"\.(rename|hardlink_to)\(|\bos\.(rename|replace)\(|\bfsync\(")
    found = {
        path.relative_to(root).as_posix()
        for folder in ("app", "worker", "trainer")
        for path in (root / folder).rglob("*.py")
        if moving.search(path.read_text())
    }
    # The events file is appended to, and synced with the state that speaks of it.
    assert found == {"trainer/system/files.py", "trainer/spec/events.py"}
