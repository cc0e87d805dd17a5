"""Rate limits: a bucket for each key, filled steadily, emptied by requests.

The buckets are in Redis, so that all API processes count together; while it does not answer, each process
counts for itself rather than turn anybody away.
"""

import logging
import math
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core.errors import TooManyRequests

_MAX_BUCKETS = 10_000
#: How long an answer may take, and how long Redis is left alone when it took longer.
_SOCKET_SECONDS = 0.5
_AWAY_SECONDS = 5.0
_log = logging.getLogger("app")

# A bucket as in Bucket.take, by the clock of Redis: one for all processes. It is forgotten once it is full.
_TAKE = """
local limit, clock = tonumber(ARGV[1]), redis.call('TIME')
local now, rate = clock[1] + clock[2] / 1e6, limit / 60
local bucket, level, wait = redis.call('HMGET', KEYS[1], 'limit', 'level', 'at'), limit, 0
if bucket[1] == ARGV[1] then level = math.min(limit, bucket[2] + (now - bucket[3]) * rate) end
if level < 1 then wait = (1 - level) / rate else level = level - 1 end
redis.call('HSET', KEYS[1], 'limit', ARGV[1], 'level', tostring(level), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], 61)
return tostring(wait)
"""


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
    """Used on the event loop alone. ``broker_url``: the Redis to count in; None counts here."""

    def __init__(self, broker_url: str | None = None) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._redis = None if broker_url is None else _client(broker_url)
        self._take: Any = None if self._redis is None else self._redis.register_script(_TAKE)
        self._away_until = 0.0

    async def check(self, key_id: str, per_minute: int, whose: str = "This key") -> None:
        """Count a request of a key, or of ``whose`` id it is.

        Raises TooManyRequests, saying when the next one may come.
        """
        wait = await self._shared(key_id, per_minute)
        if wait is None:
            wait = self._own(key_id, per_minute, time.monotonic())
        if wait:
            seconds = math.ceil(wait)
            raise TooManyRequests(
                f"{whose} may send {per_minute} requests per minute; try again in {seconds} s.",
                headers={
                    "retry-after": str(seconds),
                    "retry-after-ms": str(math.ceil(wait * 1000)),
                    "x-ratelimit-limit-requests": str(per_minute),
                    "x-ratelimit-remaining-requests": "0",
                },
            )

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _shared(self, key_id: str, per_minute: int) -> float | None:
        """Seconds to wait, by the bucket that all share; None while that cannot be asked."""
        if self._take is None or time.monotonic() < self._away_until:
            return None
        try:
            return float(await self._take(keys=[f"policysplit:rate:{key_id}"], args=[per_minute]))
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            _log.warning("each process counts rate limits by itself for now: %s", error)
            return None

    def _own(self, key_id: str, per_minute: int, now: float) -> float:
        bucket = self._buckets.get(key_id)
        if bucket is None or bucket.per_minute != per_minute:
            if len(self._buckets) >= _MAX_BUCKETS:
                self._buckets.clear()
            bucket = self._buckets[key_id] = Bucket(per_minute, per_minute, now)
        return bucket.take(now)


def _client(broker_url: str) -> Redis | None:
    """A client of the broker, if that is a Redis."""
    options: dict[str, Any] = {
        "socket_timeout": _SOCKET_SECONDS,
        "socket_connect_timeout": _SOCKET_SECONDS,
        "retry": None,
    }
    parts = urlsplit(broker_url)
    if parts.scheme == "redis+socket":
        return Redis(unix_socket_path=parts.path, **options)
    return Redis.from_url(broker_url, **options) if parts.scheme in ("redis", "rediss") else None
