"""Fixtures live in ``tests/fixtures``, one file a subject, and nowhere else.

A file that imports another comes after it: pytest rewrites the assertions of what it loads first.
"""

import atexit
import functools
import inspect
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before anything imports torch, and for all processes that tests start. The cores are shared out among tests
# already: with two threads each, which wait for each other, the trainer's tests take five times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Services that run here for others are of nobody's concern there, and the other way round.
os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="runtime-")

import httpx
import pytest
import scipy  # noqa: F401  # before large_imports, which would hide it from the tests of statistics
from hypothesis import settings

from tests.fixtures import forks
from trainer.system.imports import large_imports

atexit.register(shutil.rmtree, os.environ["XDG_RUNTIME_DIR"], ignore_errors=True)

# The same examples at every run, however slow the machine.
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")

# A client gives up after 5 s by default, and a machine that runs two tests at once may take longer. A test
# that is about time says its own; the limit of each test ends what hangs.
_usual: httpx.Timeout = inspect.signature(httpx.Client).parameters["timeout"].default
_usual.connect = _usual.read = _usual.write = 60.0

# A client reads the certificates of 140 authorities when it is made, which takes 30 ms: here they share them.
# httpx 0.28 has no way to say so for all clients.
_transport = httpx._transports.default
_transport.create_ssl_context = functools.cache(httpx._config.create_ssl_context)  # type: ignore[attr-defined]

pytest_plugins = [
    "tests.fixtures.api",
    "tests.fixtures.belongings",
    "tests.fixtures.broker",
    "tests.fixtures.browser",
    "tests.fixtures.databases",
    "tests.fixtures.http_server",
    "tests.fixtures.hub",
    "tests.fixtures.models",
    "tests.fixtures.object_store",
    "tests.fixtures.engines",
    "tests.fixtures.otlp",
    "tests.fixtures.outages",
    "tests.fixtures.ray_nodes",
    "tests.fixtures.receivers",
    "tests.fixtures.service",
    "tests.fixtures.vllm",
    "tests.fixtures.workers",
]

# What a shell starts in the background has SIGINT ignored, and so would all have that is started here: a test
# that sends it would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Files with a few tests that take long: begun first, so that no process waits at the end for another's last.
_LONG = (
    *("test_vllm_runs", "test_vllm", "test_engines", "test_ranks", "test_serve", "test_run", "test_lora"),
    *("test_sharding", "test_vllm_replicas", "test_ray", "test_ranked_jobs", "test_staleness", "test_pages"),
    *("test_ray_jobs", "test_token_ids", "test_vllm_engine", "test_routing", "test_supervisor"),
)


def pytest_configure(config: pytest.Config) -> None:
    """One server of forks for all processes that the tests are shared out to, which are forks as well."""
    if config.getoption("numprocesses", None):
        os.environ[forks.SHARED] = forks.start_server()
        config.option.tx = [f"popen//python={forks.python()}" for _ in config.option.tx]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """The tests' files import all that is large."""
    with large_imports():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: places.get(Path(item.path).stem, len(_LONG)))
