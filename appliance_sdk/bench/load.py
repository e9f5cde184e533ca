"""What to send, and between whom."""

from __future__ import annotations

from typing import NamedTuple

NODE = "10.200.0.1"
"""Where GWLB sends from. No interface has this address: the kernel there must not answer."""
NODE_MAC = "02:00:00:00:00:aa"
APPLIANCE_MAC = "02:00:00:00:00:02"


class Load(NamedTuple):
    """What to send. Frames are functions of their numbers, see helper/frames.h."""

    flows: int = 1000
    """0: each packet begins another one."""
    size: int = 512
    """Bytes of the inner packet."""
    tcp: bool = False
    ipv6: bool = False
    one_way: bool = False
    """All from client to server; else every other round goes back."""
    epoch: int = 0
    """Another number: other flows."""
    open_rounds: int = 2
    """Sent to every flow before anything is measured; TCP needs three, its handshake."""
    rate: float = 0.0
    """Packets a second; 0: as many as the window lets, or as there can be."""
    window: int = 0
    """Packets under way at most; 0: no limit, so with no rate either it is a flood."""
    burst: int = 1
    """Packets sent together."""
    seconds: float = 1.0
    packets: int = 0
    """At most, 0: no limit."""
    whole_every: int = 1000
    """Every so many replies are compared byte for byte, not only their headers."""
