"""What plugins have to do with a flow."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from appliance_sdk.flow.reassembly import StreamBuffer
    from appliance_sdk.plugin.handler import FlowHandler
    from appliance_sdk.plugin.manager import Seat

Hooks: TypeAlias = "tuple[tuple[Seat, Any], ...]"
"""Handlers' methods in the order of their plugins."""


class Inspection:
    """What is kept for a flow from when the first plugin wants something of it: see `Flow.inspect`.

    Most flows are let pass at once and never have one.
    """

    __slots__ = ("handlers", "held", "on_data", "on_packet", "record", "sound", "streams")

    handlers: dict[Seat, FlowHandler[Any]]
    on_packet: Hooks
    on_data: Hooks
    streams: list[StreamBuffer | None] | None
    """What the client (0) and the server (1) are sent, each when first shown; None where nobody
    wants it from the first byte on."""
    sound: int
    """Which ends have sent a right checksum: 1 the server, 2 the client."""
    record: Any
    held: Any

    def __init__(self) -> None:
        self.handlers = {}
        self.on_packet = self.on_data = ()
        self.streams = None
        self.sound = 0
        self.record = self.held = None

    def unhook(self, seat: Seat) -> None:
        """Call no hook of this plugin any more."""
        if self.on_packet or self.on_data:
            self.on_packet = tuple(entry for entry in self.on_packet if entry[0] is not seat)
            self.on_data = tuple(entry for entry in self.on_data if entry[0] is not seat)

    def unhook_all(self) -> None:
        """Call none of any plugin."""
        if self.on_packet or self.on_data:
            self.on_packet = self.on_data = ()


class _Uninspected(Inspection):
    """Of all flows that no plugin looks at. These are no slots: nothing can be set."""

    __slots__ = ()

    handlers = MappingProxyType({})  # type: ignore[assignment,var-annotated]  # nor put in
    on_packet = ()
    on_data = ()
    streams = None
    sound = 0
    record = None
    held = None

    def __init__(self) -> None:
        pass


UNINSPECTED = _Uninspected()
