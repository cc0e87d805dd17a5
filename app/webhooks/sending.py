"""One attempt to deliver an event."""

import time
from dataclasses import dataclass

import httpx

from app.core.outbound import post
from app.core.sealing import Unreadable, unseal
from app.core.settings import get_settings
from app.webhooks.repository import Due
from app.webhooks.signing import signed_headers
from trainer.system.addresses import Reach, Refused

_SECONDS = 15.0
_USER_AGENT = "policysplit-webhooks"


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt: a status code, or why there is none."""

    seconds: float
    status_code: int | None = None
    error: str | None = None

    @property
    def delivered(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300


def webhook_reach() -> Reach:
    """Where webhooks may go."""
    hosts = frozenset(host.lower() for host in get_settings().webhook_allowed_hosts)
    return Reach(hosts, "POLICYSPLIT_WEBHOOK_ALLOWED_HOSTS", plain=False)


def webhook_client() -> httpx.AsyncClient:
    """A client for deliveries: no proxy of the environment, no redirects, no connection that is kept."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(timeout=_SECONDS, follow_redirects=False, trust_env=False, limits=limits)


async def send(client: httpx.AsyncClient, due: Due) -> Outcome:
    """Sign and send; never raises for what the other side does."""
    began = time.monotonic()
    try:
        headers = signed_headers(
            due.event_id, int(time.time()), due.payload, [unseal(one) for one in due.secrets]
        )
        headers |= {"content-type": "application/json", "user-agent": _USER_AGENT}
        status = await post(
            client,
            due.url,
            content=due.payload,
            headers=headers,
            reach=webhook_reach(),
            seconds=_SECONDS,
        )
    except Unreadable as error:
        return Outcome(time.monotonic() - began, error=f"the signing secret cannot be read: {error}")
    except (httpx.HTTPError, httpx.InvalidURL, Refused) as error:
        said = str(error) or type(error).__name__
        return Outcome(time.monotonic() - began, error=said[:500])
    return Outcome(time.monotonic() - began, status_code=status)
