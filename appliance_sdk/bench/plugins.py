"""Plugins that do next to nothing, so that what is measured is what the SDK takes to ask them."""

from __future__ import annotations

from typing import Any

from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.chunk import Chunk
from appliance_sdk.plugin.flow import Flow
from appliance_sdk.plugin.handler import FlowHandler
from appliance_sdk.plugin.packet import Packet
from appliance_sdk.plugin.verdict import Verdict


class Count(FlowHandler[Any]):
    """Counts packets."""

    packets: int = 0

    def packet(self, packet: Packet) -> None:
        self.packets += 1


class Read(FlowHandler[Any]):
    """Counts the bytes of the stream."""

    count: int = 0

    def data(self, chunk: Chunk) -> None:
        self.count += len(chunk.data) - chunk.fresh


class One(Plugin):
    """A handler that is called with every packet."""

    def flow_opened(self, flow: Flow) -> Count:
        return Count()


class Two(One):
    """The same again."""


class Three(One):
    """And again."""


class Stream(Plugin):
    """A handler that is given the TCP stream."""

    def flow_opened(self, flow: Flow) -> Read:
        return Read()


class Agree(Plugin):
    """Looks at a flow's first packet and needs no more of it."""

    def flow_opened(self, flow: Flow) -> Verdict:
        return Verdict.DONE
