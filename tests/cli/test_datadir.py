"""One serve a data directory."""

import os
from pathlib import Path

import pytest

from app.cli.datadir import DataDir
from app.cli.errors import CliError
from tests.fixtures.service import run_cli


def test_a_directory_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    first, second = DataDir(tmp_path), DataDir(tmp_path)
    with first.locked():
        first.write_address("http://127.0.0.1:1/v1")
        with (
            pytest.raises(CliError, match=f"process {os.getpid()} at http://127.0.0.1:1/v1"),
            second.locked(),
        ):
            pass
        assert second.address() == "http://127.0.0.1:1/v1"
    assert second.address() is None
    with second.locked():
        pass


def test_the_address_of_a_dead_service_is_no_address(tmp_path: Path) -> None:
    directory = DataDir(tmp_path)
    gone = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(gone, 0)
    directory.address_file.write_text(f'{{"pid": {gone}, "url": "http://127.0.0.1:1/v1"}}')
    assert directory.address() is None


def test_a_path_too_long_for_a_socket_is_refused_before_redis_fails(tmp_path: Path) -> None:
    directory = DataDir(tmp_path)
    directory.check_socket_path(Path("/short/redis.sock"))
    with pytest.raises(CliError, match="BROKER_URL"):
        directory.check_socket_path(Path("/" + "long/" * 30 + "redis.sock"))


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CliError, match="cannot use"):
        DataDir(tmp_path / "file").create()


#: Each acts on what is in the directory.
ACTING = [
    ("models", "list"),
    ("models", "available"),
    ("keys", "list"),
    ("keys", "create", "--name", "x"),
    ("projects", "list"),
    ("migrate",),
    ("backup", "x.tar"),
]


@pytest.mark.parametrize("command", ACTING, ids=" ".join)
def test_a_directory_that_nobody_named_is_refused_while_a_service_uses_another(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, used = tmp_path / "here", DataDir(tmp_path / "used")
    here.mkdir()
    used.create()
    monkeypatch.chdir(here)
    with used.locked():
        used.write_address("http://127.0.0.1:1/v1")
        refused = run_cli(*command)
        assert refused.returncode == 1
        for said in (str(here / ".policysplit"), str(used.path), "http://127.0.0.1:1/v1", "--data-dir"):
            assert said in refused.stderr
        assert not (here / ".policysplit").exists(), "nothing was made in the wrong place"
    allowed = run_cli(*command)
    assert "no service is running on" not in allowed.stderr
    assert f"Data directory: {here / '.policysplit'}" in allowed.stderr


def test_a_directory_that_was_named_or_is_served_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, mine = DataDir(tmp_path / "used"), DataDir(tmp_path / "here" / ".policysplit")
    for one in (used, mine):
        one.create()
    monkeypatch.chdir(tmp_path / "here")
    with used.locked():
        used.write_address("http://127.0.0.1:1/v1")
        named = run_cli("models", "list", "--data-dir", str(mine.path))
        by_environment = run_cli("models", "list", POLICYSPLIT_DATA_DIR=str(mine.path))
        elsewhere = run_cli("keys", "list", DATABASE_URL=f"sqlite:///{tmp_path / 'absent.db'}")
        for taken in (named, by_environment):
            assert (taken.returncode, f"Data directory: {mine.path}" in taken.stderr) == (0, True)
        assert "no service is running on" not in elsewhere.stderr, "its database is not in the directory"
        with mine.locked():
            mine.write_address("http://127.0.0.1:2/v1")
            assert mine.served_elsewhere() == {str(used.path): "http://127.0.0.1:1/v1"}
            assert run_cli("models", "list").returncode == 0
        assert used.served_elsewhere() == {}


def test_a_folder_of_services_that_another_user_could_have_made_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "policysplit").symlink_to(tmp_path / "elsewhere")
    told = f'{{"pid": {os.getpid()}, "url": "http://evil/v1", "data_dir": "/evil"}}'
    (tmp_path / "elsewhere" / "x.json").write_text(told)
    assert DataDir(tmp_path / "mine").served_elsewhere() == {}
