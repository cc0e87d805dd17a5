"""Rate limits: a bucket for each key, filled steadily, emptied by requests. Kept by each API process."""

import math
from dataclasses import dataclass

from app.errors import TooManyRequests

_MAX_BUCKETS = 10_000


@dataclass
class Bucket:
    """``level`` requests may be sent at once; as many as the limit allows in a minute fit in."""

    per_minute: int
    level: float
    at: float

    def take(self, now: float) -> float:
        """Take one request; 0, or after how many seconds there will be one."""
        rate = self.per_minute / 60
        self.level = min(self.per_minute, self.level + (now - self.at) * rate)
        self.at = now
        if self.level < 1:
            return (1 - self.level) / rate
        self.level -= 1
        return 0.0


class RateLimiter:
    """Used on the event loop alone."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}

    def check(self, key_id: str, per_minute: int, now: float) -> None:
        """Count a request; raises TooManyRequests, saying when the next one may come."""
        bucket = self._buckets.get(key_id)
        if bucket is None or bucket.per_minute != per_minute:
            if len(self._buckets) >= _MAX_BUCKETS:
                self._buckets.clear()
            bucket = self._buckets[key_id] = Bucket(per_minute, per_minute, now)
        wait = bucket.take(now)
        if wait:
            seconds = math.ceil(wait)
            raise TooManyRequests(
                f"This key may send {per_minute} requests a minute; try again in {seconds} s.",
                headers={
                    "retry-after": str(seconds),
                    "retry-after-ms": str(math.ceil(wait * 1000)),
                    "x-ratelimit-limit-requests": str(per_minute),
                    "x-ratelimit-remaining-requests": "0",
                },
            )
