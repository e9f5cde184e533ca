"""Hosts about which the suite's policy says something: `rig.tcp(443, **hosts(rig))`."""

from __future__ import annotations

from typing import TypedDict

from appliance_sdk.conformance.rig import Rig


class Ends(TypedDict):
    """Two hosts, as `Rig.tcp` and the like take them."""

    client: str
    server: str


def hosts(rig: Rig, *, ipv6: bool = False) -> Ends:
    """A client and a server between which the rules decide by port."""
    client, server = rig.random.randrange(1, 180), rig.random.randrange(40, 120)
    return _between(client, server, ipv6)


def open_hosts(rig: Rig, *, ipv6: bool = False) -> Ends:
    """A client, and a server to which any TCP port is allowed that no earlier rule forbids."""
    client, server = rig.random.randrange(1, 180), rig.random.randrange(130, 250)
    if ipv6:
        return {"client": f"2001:db8:1::{client:x}", "server": f"2001:db8:2:1::{server:x}"}
    return _between(client, server, ipv6)


def closed_hosts(rig: Rig, *, ipv6: bool = False) -> Ends:
    """A client, and a server to which everything is rejected."""
    client, server = rig.random.randrange(1, 180), rig.random.randrange(8, 16)
    if ipv6:
        return {"client": f"2001:db8:1::{client:x}", "server": f"2001:db8:2:2::{server:x}"}
    return _between(client, server, ipv6)


def blocked_hosts(rig: Rig, *, ipv6: bool = False) -> Ends:
    """A client from which nothing is allowed, and a server."""
    client, server = rig.random.randrange(192, 256), rig.random.randrange(40, 120)
    if ipv6:
        return {"client": f"2001:db8:1:bad::{client:x}", "server": f"2001:db8:2::{server:x}"}
    return _between(client, server, ipv6)


def _between(client: int, server: int, ipv6: bool) -> Ends:
    if ipv6:
        return {"client": f"2001:db8:1::{client:x}", "server": f"2001:db8:2::{server:x}"}
    return {"client": f"192.0.2.{client}", "server": f"203.0.113.{server}"}
