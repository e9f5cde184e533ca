"""A rule's header, ready to be held against the ends of a packet."""

from __future__ import annotations

from typing import NamedTuple

from appliance_sdk import Flow
from reference_appliances.ids.ranges import RangeSet
from reference_appliances.ids.rule import (
    PROTOCOLS,
    WITH_PORTS,
    Addresses,
    Rule,
    Ruleset,
    protocol_number,
)


class Ends(NamedTuple):
    """Where a packet comes from and goes to; ports are 0 where there are none."""

    protocol: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int

    @classmethod
    def of(cls, flow: Flow) -> Ends:
        """Those of what the client sends."""
        return cls(
            protocol_number(flow.protocol),
            flow.client_ip,
            flow.server_ip,
            flow.client_port,
            flow.server_port,
        )

    def turned(self) -> Ends:
        """Those of the answer."""
        return Ends(
            self.protocol, self.destination, self.source, self.destination_port, self.source_port
        )


class AddressSet:
    """Membership for packed addresses of both families."""

    __slots__ = ("_v4", "_v6")

    def __init__(self, group: Addresses) -> None:
        self._v4 = RangeSet(group.v4)
        self._v6 = RangeSet(group.v6)

    def __contains__(self, address: bytes) -> bool:
        return address in (self._v4 if len(address) == 4 else self._v6)


class Sets:
    """The groups of a ruleset, each built once however many rules name it."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._addresses = {n: AddressSet(group) for n, group in ruleset.addresses.items()}
        self._ports = {name: RangeSet(group.ranges) for name, group in ruleset.ports.items()}

    def address(self, name: str) -> AddressSet | None:
        """None = everyone."""
        return self._addresses[name] if name else None

    def port(self, name: str) -> RangeSet[int] | None:
        """None = all."""
        return self._ports[name] if name else None


class Header:
    """Protocol, addresses and ports of a rule."""

    __slots__ = (
        "_both_ways",
        "_destination",
        "_destination_port",
        "_protocols",
        "_size",
        "_source",
        "_source_port",
    )

    def __init__(self, rule: Rule, sets: Sets) -> None:
        protocol = PROTOCOLS[rule.protocol]
        self._protocols = protocol.numbers
        self._size = {0: 0, 4: 4, 6: 16}[protocol.version]
        self._source = sets.address(rule.source)
        self._source_port = sets.port(rule.source_port)
        self._destination = sets.address(rule.destination)
        self._destination_port = sets.port(rule.destination_port)
        self._both_ways = rule.both_ways

    def matches(self, ends: Ends) -> bool:
        """Whether the rule is about packets between these ends, that way."""
        if self._protocols and ends.protocol not in self._protocols:
            return False
        if self._size and len(ends.source) != self._size:
            return False
        if self._one_way(ends):
            return True
        return self._both_ways and self._one_way(ends.turned())

    def _one_way(self, ends: Ends) -> bool:
        if self._source_port is not None or self._destination_port is not None:
            if ends.protocol not in WITH_PORTS:
                return False
            if not _within(self._destination_port, ends.destination_port):
                return False
            if not _within(self._source_port, ends.source_port):
                return False
        if self._source is not None and ends.source not in self._source:
            return False
        return self._destination is None or ends.destination in self._destination


def _within(ports: RangeSet[int] | None, port: int) -> bool:
    return ports is None or port in ports
