"""Requests to addresses that users give: to the public internet alone, unless the operator allows a host.

A name is resolved once and the request goes to the address that was checked: a name that changes its address
between the check and the connection (DNS rebinding) gains nothing. Redirects are not followed.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

import httpx

from trainer.graders.addresses import is_public

_MAX_URL = 2048


class ForbiddenTarget(ValueError):
    """The address may not be asked; the message says why."""


def check_url(url: str, allowed_hosts: Collection[str]) -> None:
    """Raise ForbiddenTarget for a URL that could never be asked. Names are not resolved here."""
    if len(url) > _MAX_URL:
        raise ForbiddenTarget(f"it has {len(url)} characters, it may have {_MAX_URL}")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:
        raise ForbiddenTarget(f"it is no URL: {error}") from None
    if parts.scheme not in ("https", "http") or not host or not url.isprintable() or " " in url:
        raise ForbiddenTarget("it should be of the form https://HOST/PATH")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ForbiddenTarget("it should have no user name, password or fragment")
    if host in allowed_hosts:
        return
    if parts.scheme == "http":
        raise ForbiddenTarget("it should begin with https://")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if host == "localhost" or host.endswith(".localhost"):
            raise _not_public(host, host) from None
        return
    _check_address(host, str(address))


async def post(
    client: httpx.AsyncClient,
    url: str,
    *,
    content: str,
    headers: dict[str, str],
    allowed_hosts: Collection[str],
) -> int:
    """POST ``content``; the status code of the answer, whose body is not read.

    Raises ForbiddenTarget, or httpx.HTTPError where there is no answer. The client must not follow redirects.
    """
    check_url(url, allowed_hosts)
    target = httpx.URL(url)
    address = await _resolve(target.host, target.port or (443 if target.scheme == "https" else 80))
    if target.host not in allowed_hosts:
        _check_address(target.host, address)
    request = client.build_request(
        "POST",
        target.copy_with(host=address),
        content=content.encode(),
        headers={**headers, "host": target.netloc.decode("ascii")},
        extensions={"sni_hostname": target.host},
    )
    response = await client.send(request, stream=True)
    await response.aclose()
    return response.status_code


async def _resolve(host: str, port: int) -> str:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{host} has no address: {error}") from error
    # Not every machine that has an IPv6 address can use it.
    addresses = sorted(found, key=lambda one: one[0] != socket.AF_INET)
    return str(addresses[0][4][0])


def _check_address(host: str, address: str) -> None:
    if not is_public(address):
        raise _not_public(host, address)


def _not_public(host: str, address: str) -> ForbiddenTarget:
    return ForbiddenTarget(
        f"{host} is {address}, which is not on the public internet; the operator can allow the host in "
        "POLICYSPLIT_WEBHOOK_ALLOWED_HOSTS"
    )
