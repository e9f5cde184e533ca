"""A flow that waits for a verdict, and a packet of it that waits with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance_sdk.plugin.flow import Flow
    from appliance_sdk.plugin.hold import Hold
    from appliance_sdk.plugin.manager import Seat


class Waiting:
    """One packet that waits."""

    __slots__ = ("asked", "datagram", "edited", "inner", "local", "peer", "to_server")

    def __init__(
        self, peer: bytes, local: bytes, datagram: bytes, inner: int, to_server: bool
    ) -> None:
        self.peer = peer
        self.local = local
        self.datagram = datagram
        self.inner = inner
        self.to_server = to_server
        self.asked = False
        """The handlers have been asked about it."""
        self.edited: bytearray | None = None
        """The inner packet as they edited it."""


class Held:
    """One flow that waits: for whom, until when, and its packets."""

    __slots__ = ("cancel", "deadlines", "flow", "holds", "opening", "queue", "witness")

    def __init__(self, flow: Flow, opening: bool) -> None:
        self.flow = flow
        self.opening = opening
        """The flow is new: plugins behind the one that waits have not been asked."""
        self.witness: Waiting | None = None
        """What they are asked by if its first packet could not wait, as a fragment: never sent."""
        self.holds: dict[Seat, Hold] = {}
        self.cancel: dict[Seat, Callable[[], None]] = {}
        self.deadlines: dict[Seat, float] = {}
        self.queue: deque[Waiting] = deque()
