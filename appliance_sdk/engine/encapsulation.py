"""How the packets of each flow came last: what is sent beside them goes back likewise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance_sdk.engine.decision import Place
from appliance_sdk.flow.envelope import HEADER_BYTES, WHOLE, Envelope, split_header
from appliance_sdk.plugin.flow import Flow

if TYPE_CHECKING:
    from appliance_sdk.flow.table import FlowTable

_KEPT = 1 << 16


class Encapsulation:
    """Headers, addresses and ports of one engine's flows; those that are equal are one object."""

    def __init__(self, table: FlowTable[Flow]) -> None:
        self._table = table
        self._peers: dict[bytes, bytes] = {}
        self._envelopes: dict[tuple[bytes, bytes], Envelope] = {}

    def remember(self, flow: Flow, place: Place) -> None:
        """Remember the newest one: GWLB drops what comes back with an old cookie."""
        peer, local, buffer, start, inner = place
        if inner - start == HEADER_BYTES:
            head, flow._cookie = split_header(buffer, start)
            self._table.meet(flow.lane, head)
            envelope = flow._envelope
            if head != envelope.head or local != envelope.local:
                flow._envelope = self.one_envelope(head, local)
        else:  # its cookie stands anywhere, so that no other flow has it
            flow._cookie = WHOLE
            flow._envelope = Envelope(bytes(buffer[start:inner]), local)
        if peer != flow.peer:
            flow.peer = self.one_peer(bytes(peer))

    def one_envelope(self, head: bytes, local: bytes) -> Envelope:
        """The one object for all flows that have this in common."""
        found = self._envelopes.get((head, local))
        if found is None:
            if len(self._envelopes) >= _KEPT:
                self._envelopes.clear()
            found = self._envelopes[head, local] = Envelope(head, local)
        return found

    def one_peer(self, peer: bytes) -> bytes:
        """The one object for this port and address: a node has no more than 65,536 of them."""
        if len(self._peers) >= _KEPT:
            self._peers.clear()
        return self._peers.setdefault(peer, peer)
