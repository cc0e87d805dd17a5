"""Fixtures live in ``tests/fixtures``, one file a subject, and nowhere else.

A file that imports another comes after it: pytest rewrites the assertions of what it loads first.
"""

import os
from pathlib import Path

# Before anything imports torch, and for all processes that tests start. The cores are shared out among tests
# already: with two threads each, which wait for each other, the trainer's tests take five times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# The same examples at every run, however slow the machine.
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")

pytest_plugins = [
    "tests.fixtures.api",
    "tests.fixtures.belongings",
    "tests.fixtures.broker",
    "tests.fixtures.browser",
    "tests.fixtures.databases",
    "tests.fixtures.http_server",
    "tests.fixtures.hub",
    "tests.fixtures.models",
    "tests.fixtures.engines",
    "tests.fixtures.outages",
    "tests.fixtures.receivers",
    "tests.fixtures.service",
    "tests.fixtures.vllm",
    "tests.fixtures.workers",
]

# Files with a few tests that take long: begun first, so that no process waits at the end for another's last.
_LONG = (
    *("test_vllm_runs", "test_vllm", "test_engines", "test_ranks", "test_serve", "test_run", "test_lora"),
    *("test_pages", "test_real_trainer", "test_token_ids", "test_vllm_engine", "test_routing"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: places.get(Path(item.path).stem, len(_LONG)))
