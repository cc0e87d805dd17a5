"""How busy the engines are: read off when Prometheus asks, from the pool and from engines that tell of it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import aiohttp
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from worker.inference.pool import EnginePool, Loaded

_ASK_SECONDS = 2.0


@dataclass(frozen=True)
class Load:
    """Of one engine. ``kv_cache``: the share of its memory for tokens that is in use, where it tells."""

    model: str
    bytes: int
    running: float
    waiting: float
    kv_cache: float | None


async def told(pool: EnginePool) -> bytes:
    """The load of all engines that are up, in Prometheus' text format."""
    loads = await asyncio.gather(*(_load(pool, entry) for entry in pool.loaded))
    return generate_latest(Loads(loads))


async def _load(pool: EnginePool, entry: Loaded) -> Load:
    # One that answers one request at a time has its queue here; others have their own.
    running = min(entry.users, 1) if pool.engine.serial else entry.users
    values: dict[str, float] = {"running": running, "waiting": entry.users - running}
    names = pool.engine.load_metrics
    if names:
        try:
            timeout = aiohttp.ClientTimeout(_ASK_SECONDS)
            async with entry.child.client.get("/metrics", timeout=timeout) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            text = ""  # it starts, ends or hangs, of which others tell
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in names:
                    values[names[sample.name]] = sample.value
    return Load(pool.name_of(entry), entry.size, values["running"], values["waiting"], values.get("kv_cache"))


class Loads(Collector):
    """Their metrics."""

    def __init__(self, loads: Iterable[Load]):
        self._loads = loads

    def collect(self) -> Iterable[Metric]:
        """One family a number."""
        requests = GaugeMetricFamily(
            "policysplit_engine_requests",
            "Requests at an engine, running or waiting",
            labels=["model", "state"],
        )
        memory = GaugeMetricFamily(
            "policysplit_engine_memory_bytes", "Memory an engine takes from the budget", labels=["model"]
        )
        cache = GaugeMetricFamily(
            "policysplit_engine_kv_cache_used",
            "Share of an engine's key-value cache in use",
            labels=["model"],
        )
        for one in self._loads:
            requests.add_metric([one.model, "running"], one.running)
            requests.add_metric([one.model, "waiting"], one.waiting)
            memory.add_metric([one.model], one.bytes)
            if one.kv_cache is not None:
                cache.add_metric([one.model], one.kv_cache)
        return requests, memory, cache
