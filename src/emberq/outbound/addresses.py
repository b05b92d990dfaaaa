"""Which addresses outgoing requests may reach: public ones, and those that the operator allows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Addresses of a machine or a site. `true` in `EMBERQ_OUTBOUND_ALLOW_PRIVATE` allows these.
_PRIVATE = tuple(
    ip_network(network)
    for network in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8"),
        *("::1/128", "fc00::/7"),
    )
)
#: Addresses that are neither public nor private, of IANA's registries of special-purpose addresses: only a
#: network that is named allows them. 169.254.0.0/16, 168.63.129.16 and 192.0.0.192 hold metadata and
#: credentials of machines in clouds.
_SPECIAL = tuple(
    ip_network(network)
    for network in (
        *("0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
        # Within 2000::/3, the only addresses of IPv6 that are public: protocols of the IETF with Teredo,
        # documentation, and 6to4, which leads to any IPv4 address.
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
_GLOBAL_IPV6 = IPv6Network("2000::/3")
#: Addresses of IPv6 that stand for an address of IPv4, in their last 32 bits.
_MAPPED = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


def effective_address(address: Address) -> Address:
    """Return the address that is reached: of an IPv4-mapped or NAT64 address, the IPv4 address in it."""
    if isinstance(address, IPv6Address) and any(_contains(network, address) for network in _MAPPED):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Return whether an address belongs to the public internet.

    Loopback, private, shared, link-local, multicast, reserved and translated addresses do not.
    """
    address = effective_address(address)
    if isinstance(address, IPv6Address) and not _contains(_GLOBAL_IPV6, address):
        return False
    return not any(_contains(network, address) for network in (*_PRIVATE, *_SPECIAL))


@dataclass(frozen=True, slots=True)
class AllowedTargets:
    """The targets that outgoing requests may reach besides public addresses.

    Attributes:
        networks: Networks whose addresses are allowed.
        hosts: Host names, in lower case, whose addresses are allowed whatever they are.
        servers: Hosts with their port, likewise.
    """

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    servers: frozenset[tuple[str, int]] = field(default=frozenset())

    @classmethod
    def parse(cls, value: str) -> Self:
        """Read the value of `EMBERQ_OUTBOUND_ALLOW_PRIVATE`.

        Args:
            value: Empty or `false` for none, `true` for all private networks, or networks, addresses and
                host names, with commas between them.

        Raises:
            ValueError: If a part is none of these.
        """
        networks: list[Network] = []
        hosts: set[str] = set()
        for part in (part.strip().lower() for part in value.split(",")):
            if part in ("", "false", "0", "no"):
                continue
            if part in ("true", "1", "yes"):
                networks += _PRIVATE
            elif "/" in part or ":" in part or part.replace(".", "").isdigit():
                networks.append(ip_network(part))
            elif part.replace("-", "").replace(".", "").replace("_", "").isalnum() and part.isascii():
                hosts.add(part.rstrip("."))
            else:
                msg = "must be true, false, or networks (10.2.0.0/16), addresses and host names with commas"
                raise ValueError(msg)
        return cls(tuple(networks), frozenset(hosts))

    def with_servers(self, urls: Iterable[str]) -> Self:
        """Return a copy that also allows the servers of these URLs, which the operator configured.

        A URL that cannot be read allows nothing; the request to it says why.
        """
        servers = set(filter(None, map(_server, urls)))
        return type(self)(self.networks, self.hosts, self.servers | servers)

    def permits(self, host: str, port: int, address: Address) -> bool:
        """Return whether a connection to this address of a host is allowed."""
        host = host.lower().rstrip(".")
        if (host, port) in self.servers or host in self.hosts or is_public(address):
            return True
        address = effective_address(address)
        return any(_contains(network, address) for network in self.networks)


def parse_address(text: str) -> Address:
    """Read an address as the resolver writes it, without the zone of a link-local one."""
    return ip_address(text.partition("%")[0])


def _contains(network: Network, address: Address) -> bool:
    return network.version == address.version and address in network


def _server(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    return (host.rstrip("."), port or (443 if parts.scheme == "https" else 80)) if host else None
