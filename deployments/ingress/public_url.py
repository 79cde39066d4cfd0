"""Which URLs this service fetches on a user's behalf: https, port 443, by name, and only where every address of the name is on
the public internet (SECURITY §2.5). Holds for downloads by URL, and for whatever else may come to be fetched.

The grammar is stricter than the standard's on purpose: what two parsers could read differently is refused, not interpreted.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from pipeline.errors import ClientError

MOST_CHARACTERS = 2048
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#: The last label begins with a letter, so that no way to write a number is a host.
_URL = re.compile(
    rf"https://(?P<host>(?:{_LABEL}\.){{1,10}}[A-Za-z](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9]))(?::443)?"
    r"(?P<path>(?:[/?](?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?)\Z"
)

#: Not the public internet: the IANA registries of special-purpose addresses, written out, for Python's own idea of them changes
#: between versions; and what clouds keep for themselves within public ranges.
_NOT_PUBLIC_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
#: Global unicast; mapped and compatible IPv4, NAT64, ULA, link-local, site-local and multicast lie outside of it.
_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, ORCHID and other protocols
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",
    )
)


class UrlRefused(ClientError):
    """url: not one that is fetched, allowed is https://<host name>[/path] without user, port or fragment"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicUrl:
    """A URL that has the right form; whether its host is public, its addresses tell."""

    host: str
    #: Path and query, as sent in a request line.
    target: str

    @classmethod
    def parse(cls, url: str) -> PublicUrl:
        """Raises UrlRefused, which does not quote the URL: it may hold a secret."""
        match = _URL.match(url) if len(url) <= MOST_CHARACTERS else None
        if match is None or len(match["host"]) > 253:
            raise UrlRefused
        path = match["path"]
        return cls(host=match["host"].lower(), target=path if path.startswith("/") else f"/{path}")

    @property
    def file_name(self) -> str:
        """The last part of the path, as it is."""
        return self.target.partition("?")[0].rpartition("/")[2]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False  # with a zone, for example
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_V4)
    return ip in _UNICAST_V6 and not any(ip in network for network in _NOT_PUBLIC_V6)
