"""An appliance that somebody else started."""

from __future__ import annotations

import msgspec


class Running(msgspec.Struct, frozen=True):
    """An appliance that runs already, on an address of this machine."""

    address: str
    """IPv4; it listens there on UDP port 6081."""
    health_port: int = 8080
    health_path: str = "/"
    events: str = ""
    """The file that it appends EVE JSON to, if the conformance suite shall read that."""
