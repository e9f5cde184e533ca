"""A target of a target group, with what the node of each zone thinks of it."""

from __future__ import annotations

import hashlib
import ipaddress

from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.states import State, Target


class Member:
    """One target, with what each zone thinks of it."""

    def __init__(self, target: Target, seed: bytes, now: float) -> None:
        self.target = target
        salt = hashlib.blake2b(target.name.encode(), digest_size=16).digest()
        self._hash = hashlib.blake2b(digest_size=8, key=seed[:32], salt=salt)
        self.registered = True
        self.registered_at = now
        self.deregistered_at = now
        self.state: dict[str, State] = {}
        self.reason: dict[str, str] = {}
        self.streak: dict[str, int] = {}
        """Successes in a row, negative: failures."""
        self.since: dict[str, float] = {}

    def weight(self, key: bytes) -> bytes:
        """The target with the greatest takes the flow (rendezvous hashing)."""
        digest = self._hash.copy()
        digest.update(key)
        return digest.digest()


def check_address(target: Target) -> None:
    """AWS takes addresses of the VPC and private ones, never public ones (API, `RegisterTargets`).

    Loopback is where the harness has its own.
    """
    try:
        address = ipaddress.ip_address(target.address)
    except ValueError:
        raise HarnessError(f"InvalidTarget: {target.address!r} is no IP address") from None
    what = ""
    if address.version != 4:
        what = "is IPv6: GENEVE comes over IPv4"
    elif address.is_global or address.is_multicast or address.is_unspecified:
        what = "is public: a target has an address of the VPC, RFC 1918 or RFC 6598"
    if what:
        raise HarnessError(f"InvalidTarget: {target.address} {what}")
