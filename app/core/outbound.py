"""Requests of the service itself to addresses that users give: webhooks, on the event loop."""

import asyncio
import socket

import httpx

from trainer.system.addresses import Reach


async def post(
    client: httpx.AsyncClient,
    url: str,
    *,
    content: str,
    headers: dict[str, str],
    reach: Reach,
    seconds: float,
) -> int:
    """POST ``content``; the status code of the answer, whose body is not read.

    It has ``seconds`` for everything, however slowly the other side talks. Raises Refused, or httpx.HTTPError
    where there is no answer. The client must not follow redirects.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _post(client, url, content, headers, reach)
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"no answer within {seconds:g} s") from error


async def _post(
    client: httpx.AsyncClient, url: str, content: str, headers: dict[str, str], reach: Reach
) -> int:
    reach.check_url(url)
    target = httpx.URL(url)
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(target.host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{target.host} has no address: {error}") from error
    request = client.build_request(
        "POST",
        target.copy_with(host=reach.checked(target.host, port, found)[0]),
        content=content.encode(),
        headers={**headers, "host": target.netloc.decode("ascii")},
        extensions={"sni_hostname": target.host},
    )
    response = await client.send(request, stream=True)
    await response.aclose()
    return response.status_code
