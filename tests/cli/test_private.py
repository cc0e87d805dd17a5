"""What the service puts on the disk, and what it listens on, is its owner's alone."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.migrate import upgrade_to_head
from app.core.private import tighten, tighten_if_open
from tests.attack import other_user
from tests.fixtures.broker import RedisServer
from tests.fixtures.engines import SCRIPTED_COMMAND, Deployment
from tests.fixtures.service import cli_environment


def open_to_others(folder: Path) -> list[Path]:
    return [
        path
        for path in (folder, *folder.rglob("*"))
        if path.lstat().st_mode & 0o077 and not path.is_symlink()
    ]


def run_with_open_umask(*arguments: str) -> str:
    """``policysplit`` in a shell whose umask hides nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env=cli_environment(),
        capture_output=True,
        text=True,
        umask=0,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files_database_and_backups_whatever_the_umask(tmp_path: Path):
    data_dir, archive, again = tmp_path / "data", tmp_path / "backup.tar", tmp_path / "again"
    run_with_open_umask("keys", "create", "--name", "x", "--data-dir", str(data_dir))
    assert (data_dir / "policysplit.db").is_file()
    assert open_to_others(data_dir) == []
    # One of before has other modes, which the archive keeps.
    (data_dir / "files").mkdir()
    (data_dir / "files" / "open").write_text("x")
    (data_dir / "files" / "open").chmod(0o666)
    run_with_open_umask("backup", str(archive), "--data-dir", str(data_dir))
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    run_with_open_umask("restore", str(archive), "--data-dir", str(again))
    assert (again / "files" / "open").is_file()
    assert open_to_others(again) == []


def test_an_older_directory_is_tightened(tmp_path: Path):
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o644)
    folder = tmp_path / "data"
    (folder / "runs" / "a").mkdir(parents=True)
    (folder / "runs" / "a" / "program").write_text("x")
    (folder / "runs" / "link").symlink_to(outside)
    for path, mode in ((folder, 0o755), (folder / "runs", 0o777), (folder / "runs" / "a" / "program", 0o755)):
        path.chmod(mode)
    (folder / "runs" / "a").chmod(0o700)
    assert tighten_if_open(folder) == 3
    assert open_to_others(folder) == []
    assert stat.S_IMODE((folder / "runs" / "a" / "program").stat().st_mode) == 0o700
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644, "a link leads out of the folder"
    (folder / "runs").chmod(0o755)
    assert (tighten_if_open(folder), tighten(folder)) == (0, 1), "nobody gets in, yet a start looks at all"


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user of the machine can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="policysplit-public-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(not other_user.can_become_another(), reason="only root can become another user")
def test_another_user_of_the_machine_gets_nothing(public_folder: Path):
    # Before anything of ours runs, as with a directory of an older version.
    data = public_folder / "data"
    data.mkdir(mode=0o755)
    (data / "old").write_text("x")
    (data / "old").chmod(0o644)
    (data / "redis").mkdir()
    redis = RedisServer(data / "redis")
    before = os.umask(0)
    url = f"sqlite:///{data / 'policysplit.db'}"
    upgrade_to_head(url)
    deployment = Deployment(data, url, ENGINE_COMMAND=SCRIPTED_COMMAND)
    try:
        redis.start()
        deployment.add_base("tiny")
        deployment.start_api()
        deployment.start_inference()
        deployment.client().chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=2, seed=1
        )
        engines = [Path(one["socket"]) for one in deployment.engines()]
        assert len(engines) == 1
        attempts = other_user.attack(data, [one.url for one in deployment.workers()], engines)
        assert [one for one in attempts if not one.held] == []
    finally:
        os.umask(before)
        deployment.close()
        redis.stop()
