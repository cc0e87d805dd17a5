"""What an inference worker counts of its engines' lives."""

from prometheus_client import Counter, Histogram

from app.core.counting import COUNTED, LONG_SECONDS

STARTS = Counter(
    "policysplit_engine_starts",
    "Engines that were started, by what came of it",
    ["outcome"],
    registry=COUNTED,
)
START_SECONDS = Histogram(
    "policysplit_engine_start_seconds",
    "Seconds until a started engine was ready",
    buckets=LONG_SECONDS,
    registry=COUNTED,
)
EVICTIONS = Counter("policysplit_engine_evictions", "Engines that went to make room", registry=COUNTED)
CRASHES = Counter("policysplit_engine_crashes", "Engines that ended by themselves", registry=COUNTED)
