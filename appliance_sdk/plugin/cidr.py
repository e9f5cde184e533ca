"""Sets of networks with a fast membership test for packed addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from appliance_sdk.errors import ConfigError


class CidrSet:
    """IPv4 and IPv6 networks; `packed_address in cidrs` costs one look-up a prefix length in use.

    Takes text such as "10.0.0.0/8", "2001:db8::/32" or a single address. Raises ConfigError for
    text that is no network, and for one with host bits set ("10.0.0.1/8").
    """

    __slots__ = ("_cidrs", "_v4", "_v6")

    def __init__(self, cidrs: Iterable[str]) -> None:
        self._cidrs = tuple(cidrs)
        self._v4: dict[int, set[int]] = {}
        self._v6: dict[int, set[int]] = {}
        for text in self._cidrs:
            network = parse_cidr(text)
            by_length = self._v4 if network.version == 4 else self._v6
            shift = network.max_prefixlen - network.prefixlen
            by_length.setdefault(shift, set()).add(int(network.network_address) >> shift)

    def __contains__(self, ip: bytes) -> bool:
        number = int.from_bytes(ip, "big")
        by_length = self._v4 if len(ip) == 4 else self._v6
        return any(number >> shift in networks for shift, networks in by_length.items())

    def __len__(self) -> int:
        return len(self._cidrs)

    def __repr__(self) -> str:
        return f"CidrSet({list(self._cidrs)!r})"


def parse_cidr(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The network that a text names. Raises ConfigError with a hint."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        hint = ""
        if "host bits set" in str(error):
            hint = f"did you mean {ipaddress.ip_network(text, strict=False)}?"
        raise ConfigError(f"`{text}` is not a network", hint=hint) from None
