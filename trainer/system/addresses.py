"""Where requests may go whose addresses users give: webhooks, graders and judges. Torch-free.

To the public internet, and to the hosts that the operator allows. A name is resolved once, every address is
checked, and the connection goes to a checked address, so that a name which resolves differently the next time
(DNS rebinding) gains nothing. What a name leads to is not told: it may be a name of a private network.

The networks are listed here: what Python's ``is_global`` says differs between its patch releases. Sources:
the special-purpose registries of IANA (RFC 6890 and what followed), and what clouds put at public addresses.
"""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_URL = 2048
_PORTS = {"https": 443, "http": 80}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NOT_PUBLIC_4 = [
    ipaddress.IPv4Network(one)
    for one in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        # IETF protocols; 192.0.0.192 is Oracle's metadata service.
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
        *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        # Multicast, reserved, broadcast.
        *("224.0.0.0/4", "240.0.0.0/4"),
        # Azure's platform, Alibaba's metadata is in 100.64.0.0/10.
        "168.63.129.16/32",
    )
]
#: All that is handed out for the internet is in 2000::/3; of it not:
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(one)
    for one in (
        # IETF protocols with Teredo, ORCHID and benchmarks; documentation, the old one and the new one.
        *("2001::/23", "2001:db8::/32", "3fff::/20"),
        # The old test network, AS112, and 6to4: where a relay goes is not told by the address alone.
        *("3ffe::/16", "2620:4f:8000::/48", "2002::/16"),
    )
]
#: IPv6 that stands for IPv4 at its end: mapped, and behind NAT64.
_EMBEDDING = [ipaddress.IPv6Network(one) for one in ("::ffff:0:0/96", "64:ff9b::/96")]


def is_public(address: str | Address) -> bool:
    """Whether an address, and every IPv4 address that it stands for, is a public one of one machine."""
    if isinstance(address, str):
        address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return not _within(address, _NOT_PUBLIC_4)
    if any(address in network for network in _EMBEDDING):
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _UNICAST_6 and not _within(address, _NOT_PUBLIC_6)


def _within(address: Address, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(address in network for network in networks)


#: As ``getaddrinfo`` gives it: family, kind, protocol, canonical name, address.
AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


class Refused(Exception):
    """A request may not go there; the message, of ``it``, says why."""


@dataclass(frozen=True)
class Reach:
    """Who may be asked."""

    allowed: frozenset[str]
    """``HOST`` or ``HOST:PORT``, in lower case, that may be in private networks and be asked without TLS."""
    setting: str
    """In which the operator allows them."""
    plain: bool = True
    """Whether others may be asked without TLS, too."""

    def check_url(self, url: str) -> None:
        """Raise Refused for a URL that could never be asked. Names are not resolved here."""
        if len(url) > MAX_URL:
            raise Refused(f"it has {len(url)} characters; it may have {MAX_URL}")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise Refused(f"it is not a URL: {error}") from None
        schemes = " or ".join(f"{scheme}://" for scheme in _PORTS)
        if parts.scheme not in _PORTS or not host or not url.isprintable() or " " in url:
            raise Refused(f"it should be a URL that begins with {schemes}")
        if not url.isascii():
            raise Refused("it has non-ASCII characters: write %XX for them, or xn--… in a host's name")
        if parts.username is not None or parts.password is not None:
            raise Refused("it contains a user name or password, but secrets do not belong in a URL")
        if parts.fragment:
            raise Refused("it has a fragment (#…), which is never sent")
        try:
            host.encode("idna")
        except UnicodeError as error:
            raise Refused(f"it is not a URL: its host is not a name: {error}") from None
        if self._allows(host, port or _PORTS[parts.scheme]):
            return
        if parts.scheme == "http" and not self.plain:
            raise Refused("it should begin with https://")
        if host == "localhost" or host.endswith(".localhost"):
            raise self._not_public(host)
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return
        if not is_public(address):
            raise self._not_public(host)

    def checked(self, host: str, port: int, found: Iterable[AddressInfo]) -> list[str]:
        """The addresses that ``getaddrinfo`` found for ``host``; Refused unless it may be asked at each."""
        addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in _ipv4_first(found)))
        if not self._allows(host, port) and not all(map(is_public, addresses)):
            raise self._not_public(host)
        return addresses

    def _allows(self, host: str, port: int) -> bool:
        host = host.lower()
        return not self.allowed.isdisjoint((host, f"{host}:{port}", f"[{host}]:{port}"))

    def _not_public(self, host: str) -> Refused:
        return Refused(
            f"{host} does not have a public address; the operator can allow the host in {self.setting}"
        )


def _ipv4_first(found: Iterable[AddressInfo]) -> list[AddressInfo]:
    """Not every machine that has an IPv6 address can use it."""
    return sorted(found, key=lambda one: one[0] != socket.AF_INET)
