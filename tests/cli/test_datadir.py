"""One serve a data directory."""

import os
from pathlib import Path

import pytest

from app.cli.datadir import DataDir
from app.cli.errors import CliError


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
