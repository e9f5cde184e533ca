"""Whose an address is: in a VPC, on the internet, and what an internet gateway makes of it."""

from __future__ import annotations

import ipaddress

from appliance_sdk.harness.topology import Topology


class Addresses:
    """The addresses of a topology's hosts; VPCs may use the same ones."""

    def __init__(self, topology: Topology) -> None:
        self._owners = {
            (host.vpc, _packed(address)): name
            for name, host in topology.hosts.items()
            for address in host.addresses
        }
        self._private: dict[bytes, tuple[str, bytes]] = {}
        self._public: dict[tuple[str, bytes], bytes] = {}
        for host in topology.hosts.values():
            first = next((a for a in host.addresses if ":" not in a), "")
            if host.public and first:
                public, private = _packed(host.public), _packed(first)
                self._private[public] = host.vpc, private
                self._public[host.vpc, private] = public
        self._ranges = [
            (ipaddress.ip_network(cidr), name)
            for name, part in topology.vpcs.items()
            for cidr in part.cidrs
        ]

    def owner(self, vpc: str, address: bytes) -> str:
        """The host that has an address in a VPC, or on the internet (""); "" if nobody has."""
        return self._owners.get((vpc, address), "")

    def inside(self, address: bytes) -> tuple[str, bytes] | None:
        """The VPC that an internet address leads into, and the address there: of an elastic IPv4
        address the private one, of an IPv6 address itself."""
        private = self._private.get(address)
        if private is None and len(address) == 16:
            ip = ipaddress.ip_address(address)
            private = next(((vpc, address) for net, vpc in self._ranges if ip in net), None)
        return private

    def outside(self, vpc: str, address: bytes) -> bytes | None:
        """What a VPC's address is on the internet; None if an IPv4 address has no elastic one."""
        return address if len(address) == 16 else self._public.get((vpc, address))


def _packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed
