"""What every check of a topology asks: is the name known, is this a range, does it lie in that."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from appliance_sdk.errors import ConfigError
from appliance_sdk.harness.routes import Network, parse_network
from appliance_sdk.plugin.config import near_miss


def known(name: str, names: Iterable[str], key: str, what: str) -> None:
    """Raise ConfigError with a near miss if there is no such thing."""
    listed = list(names)
    if name not in listed:
        raise ConfigError(f"no {what} {name!r}", key=key, hint=near_miss(name, listed))


def range_at(text: str, key: str) -> Network:
    """A range. Raises ConfigError that names the key."""
    try:
        return parse_network(text)
    except ConfigError as error:
        raise ConfigError(error.message, key=key) from None


def address_at(text: str, key: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address. Raises ConfigError that names the key."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no IP address", key=key) from None


def within(inner: Network, outer: Network) -> bool:
    """Whether a range lies in another one, or is the same."""
    if inner.version != outer.version:
        return False
    return inner.prefixlen >= outer.prefixlen and inner.network_address in outer
