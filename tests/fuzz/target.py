"""What is fuzzed: the API as its users run it, on a database with one of everything in it."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.core.tables import DEFAULT_PROJECT
from app.keys.service import create_key
from benchmarks.load.servers import our_api
from tests.fixtures.api import Api, forget
from tests.fixtures.belongings import everything
from tests.fixtures.broker import RedisServer
from tests.fixtures.databases import migrated_sqlite


@dataclass
class Target:
    """A running API; ``key`` is None where none was made.

    ``ids`` are those of what there is, by the names of the path's parameters; ``doomed`` those of more of the
    same, for the requests that remove something.
    """

    url: str
    key: str | None
    ids: dict[str, str]
    doomed: dict[str, str]


@contextlib.contextmanager
def target(*, keyed: bool) -> Iterator[Target]:
    """The API during the block, with a key or before the first key was made."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        data = folder / "data"
        (data / "models" / "tiny").mkdir(parents=True)
        (data / "models" / "tiny" / "config.json").write_text("{}")
        redis = RedisServer(folder)
        redis.start()
        stack.callback(redis.stop)
        url = migrated_sqlite(folder / "fuzz.db")
        stack.enter_context(
            _environment(
                POLICYSPLIT_DATA_DIR=str(data),
                DATABASE_URL=url,
                BROKER_URL=redis.url,
                POLICYSPLIT_PORT="0",
                # Whatever name is made up, nothing of elsewhere is asked for it.
                HF_HUB_OFFLINE="1",
                PIP_NO_INDEX="1",
            )
        )
        key = create_key("fuzz", DEFAULT_PROJECT)[1] if keyed else None
        address, _ = stack.enter_context(our_api(data, url))
        api = Api(address, data, "tiny")
        with api.client(key or "none") as client:
            ids, doomed = everything(client, api).ids, everything(client, api).ids
        yield Target(address, key, ids, doomed)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """These variables, and settings and engine that follow them, during the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    forget()
    try:
        yield
    finally:
        forget()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
