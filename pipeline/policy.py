"""Policies: who may call which endpoint how often, and from where not (contract 1backend §6)."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

#: Longest window of a rate limit, seconds.
LONGEST_WINDOW_S = 31 * 86_400
MOST_REQUESTS = 1_000_000
MOST_BLOCKED = 1024
#: Policies that can be in force at once; each call is held against all of them.
MOST_INSTANCES = 100

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Entity(StrEnum):
    """Whose requests a rate limit counts."""

    USER = "userId"
    IP = "ip"


class Scope(StrEnum):
    """Which requests a rate limit counts together."""

    #: Those to one endpoint.
    ENDPOINT = "endpoint"
    #: All that policies are asked about.
    GLOBAL = "global"


class Template(StrEnum):
    """Kinds of policies."""

    RATE_LIMIT = "rate-limit"
    BLOCKLIST = "blocklist"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A request as policies see it."""

    #: Path of the route, with its ``{names}``.
    endpoint: str
    #: Where it comes from; None where nobody said.
    ip: str | None
    #: None on a route that needs no token.
    user_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimit:
    """At most ``max_requests`` in any window of that length."""

    max_requests: int
    #: As it was written, and in seconds.
    time_window: str
    window_s: int
    entity: Entity
    scope: Scope


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocklist:
    """No request from these addresses or networks, written as ``203.0.113.7`` or ``2001:db8::/32``."""

    blocked: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """One instance of a template."""

    id: str
    #: The endpoint it is for; empty: every one.
    endpoint: str
    rule: RateLimit | Blocklist

    @property
    def template(self) -> Template:
        return Template.RATE_LIMIT if isinstance(self.rule, RateLimit) else Template.BLOCKLIST

    def concerns(self, call: Call) -> bool:
        """Whether it is for the endpoint that is called. A global limit is for all, whatever endpoint it names."""
        if isinstance(self.rule, RateLimit) and self.rule.scope is Scope.GLOBAL:
            return True
        return self.endpoint in ("", call.endpoint)

    def to_record(self) -> str:
        if isinstance(self.rule, Blocklist):
            return json.dumps({"endpoint": self.endpoint, "blocked": self.rule.blocked})
        limit = self.rule
        return json.dumps(
            {
                "endpoint": self.endpoint,
                "most": limit.max_requests,
                "window": limit.time_window,
                "window_s": limit.window_s,
                "entity": limit.entity,
                "scope": limit.scope,
            }
        )

    @classmethod
    def from_record(cls, policy_id: str, record: str) -> Policy:
        fields = json.loads(record)
        rule: RateLimit | Blocklist
        if "blocked" in fields:
            rule = Blocklist(blocked=tuple(fields["blocked"]))
        else:
            rule = RateLimit(
                max_requests=fields["most"],
                time_window=fields["window"],
                window_s=fields["window_s"],
                entity=Entity(fields["entity"]),
                scope=Scope(fields["scope"]),
            )
        return cls(id=policy_id, endpoint=fields["endpoint"], rule=rule)


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """What a call takes from one rate limit."""

    #: Names the counter: one per policy, window, and whoever is counted; a changed window begins anew.
    counter: str
    endpoint: str
    limit: RateLimit


class PolicyBook:
    """The policies in force at one moment, ready to be held against calls."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.policies = tuple(policies)
        self._limits = [(policy, policy.rule) for policy in self.policies if isinstance(policy.rule, RateLimit)]
        self._blocks = [
            (policy, _Addresses(policy.rule.blocked)) for policy in self.policies if isinstance(policy.rule, Blocklist)
        ]

    def blocks(self, call: Call) -> bool:
        """Whether the call comes from an address that a policy for its endpoint blocks."""
        if call.ip is None or not self._blocks:
            return False
        address = _address(call.ip)
        return address is not None and any(policy.concerns(call) and address in ones for policy, ones in self._blocks)

    def charges(self, call: Call) -> list[Charge]:
        """What the call takes from which limits."""
        return [
            Charge(counter=_counter(policy, limit, value, call), endpoint=call.endpoint, limit=limit)
            for policy, limit in self._limits
            if policy.concerns(call) and (value := _counted(limit.entity, call)) is not None
        ]


class _Addresses:
    """A set of addresses and networks."""

    def __init__(self, written: Iterable[str]) -> None:
        networks = [parse_network(text) for text in written]
        self._single = {network.network_address for network in networks if network.num_addresses == 1}
        self._networks = [network for network in networks if network.num_addresses > 1]

    def __contains__(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return address in self._single or any(address in network for network in self._networks)


def parse_network(text: str) -> _Network:
    """The network, or the single address as one, that ``text`` names. Raises ValueError."""
    network = ipaddress.ip_network(text.strip(), strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96), strict=False)
    return network


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _counted(entity: Entity, call: Call) -> str | None:
    """Whoever the call is charged to. An IPv6 caller has at least 2**64 addresses to choose from: its /64 counts as one."""
    if entity is Entity.USER:
        return call.user_id
    if call.ip is None:
        return None
    address = _address(call.ip)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address or call.ip)


def _counter(policy: Policy, limit: RateLimit, value: str, call: Call) -> str:
    place = call.endpoint if limit.scope is Scope.ENDPOINT else ""
    parts = [policy.id, limit.window_s, limit.entity, value, place]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
