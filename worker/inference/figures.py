"""What an inference worker counts of its engines' lives."""

from prometheus_client import Counter, Histogram

from app.core.counting import COUNTED, LONG_SECONDS

STARTS = Counter(
    "policysplit_engine_starts",
    "Engine starts by outcome",
    ["outcome"],
    registry=COUNTED,
)
START_SECONDS = Histogram(
    "policysplit_engine_start_seconds",
    "Seconds until an engine was ready",
    buckets=LONG_SECONDS,
    registry=COUNTED,
)
EVICTIONS = Counter("policysplit_engine_evictions", "Engines evicted to make room", registry=COUNTED)
CRASHES = Counter("policysplit_engine_crashes", "Engines that ended unexpectedly", registry=COUNTED)
