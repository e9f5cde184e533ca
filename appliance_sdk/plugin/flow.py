"""A flow as plugins see it: both directions of one inner 5-tuple of one endpoint."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from appliance_sdk.flow.direction import Beginning
from appliance_sdk.flow.envelope import NO_ENVELOPE, WHOLE, Envelope
from appliance_sdk.flow.expiry import Tracked
from appliance_sdk.flow.key import unpack_ends
from appliance_sdk.plugin.events import FlowInfo
from appliance_sdk.plugin.hold import Hold
from appliance_sdk.plugin.inspection import UNINSPECTED, Inspection
from appliance_sdk.plugin.verdict import Verdict
from appliance_sdk.wire.geneve import format_endpoint, geneve_identity

if TYPE_CHECKING:
    from appliance_sdk.flow.lane import Lane
    from appliance_sdk.flow.tcp import TcpTracker
    from appliance_sdk.plugin.handler import FlowHandler
    from appliance_sdk.plugin.manager import Zone
    from appliance_sdk.plugin.packet import Packet

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}


class FlowOwner(Protocol):
    """What a flow and its handlers ask of the engine they live in."""

    judged: Flow | None
    """The flow whose packet is in hand."""
    packet: Packet | None

    def alert(self, flow: Flow, message: str, rule: str, severity: int, fields: Any) -> None: ...
    def decide(self, flow: Flow, verdict: Verdict) -> None: ...
    def wake(self, handler: FlowHandler[Any], after_s: float) -> None: ...
    def record(self, flow: Flow, packets: int) -> None: ...
    def save(self, flow: Flow, reason: str, and_next: int) -> None: ...


class Stats(NamedTuple):
    """Packets and inner bytes of one direction when it was asked for, dropped ones included."""

    packets: int
    bytes: int


class Flow(Tracked):
    """One flow, from its first packet to `flow_closed`. Addresses are packed, usable as keys.

    Times are seconds on the engine's clock, as `Plugin.now`. What begins with `_` is the engine's.
    """

    __slots__ = (
        "_asked",
        "_beginning",
        "_cookie",
        "_envelope",
        "_inspection",
        "_zone",
        "bytes_to_client",
        "bytes_to_server",
        "decided_by",
        "end_reason",
        "id",
        "mode",
        "opened_at",
        "packets_to_client",
        "packets_to_server",
        "peer",
        "reported",
        "tcp",
        "verdict",
    )

    def __init__(
        self,
        id_: int,
        lane: Lane[Flow],
        ends: bytes,
        now: float,
        timeout_s: float,
        zone: Zone,
        tcp: TcpTracker | None,
        beginning: Beginning,
    ) -> None:
        # All by position, and not through super(): a storm makes tens of thousands a second.
        Tracked.__init__(self, lane, ends, now, timeout_s)
        self.id = id_
        """Unique while the appliance runs; `flow_id` in EVE records."""
        self.opened_at = now
        """When its first packet came."""
        self.packets_to_server = self.bytes_to_server = 0
        self.packets_to_client = self.bytes_to_client = 0
        self.tcp = tcp
        """What is known of the TCP connection; None for other protocols."""
        self.verdict: Verdict = Verdict.CONTINUE
        """The verdict that stands, with reason and rule."""
        self.decided_by = ""
        """The plugin or policy that gave the verdict."""
        self.end_reason = ""
        """How the flow ended, "" while it lives: "fin", "rst", "idle", "blocked" and so on."""
        self.peer = b""
        """For the engine: where its newest packet came from, port and address."""
        self.mode = 0
        """For the engine: bypassed, handled or blocked."""
        self.reported = False
        """For the engine: the first dropped packet was reported."""
        self._zone = zone
        self._beginning = beginning
        self._envelope: Envelope = NO_ENVELOPE
        self._cookie = WHOLE
        self._asked = 0
        self._inspection: Inspection = UNINSPECTED

    @property
    def packet(self) -> Packet | None:
        """The packet in hand; None in `woken` and `recheck`."""
        owner = self._zone.owner
        return owner.packet if owner.judged is self else None

    @property
    def midstream(self) -> bool:
        """The beginning was not seen here."""
        return self._beginning.midstream

    @property
    def direction_sure(self) -> bool:
        """False if who opened the flow is a guess from its ports."""
        return self._beginning.sure

    @property
    def _owner(self) -> FlowOwner:
        return self._zone.owner

    @property
    def to_server(self) -> Stats:
        """What the client has sent."""
        return Stats(self.packets_to_server, self.bytes_to_server)

    @property
    def to_client(self) -> Stats:
        """What the server has sent."""
        return Stats(self.packets_to_client, self.bytes_to_client)

    @property
    def header(self) -> bytes:
        """For the engine: the GENEVE header of its newest packet, with all options."""
        return self._envelope.header(self._cookie)

    @property
    def local(self) -> bytes:
        """For the engine: the address that its newest packet came to."""
        return self._envelope.local

    @property
    def cookie(self) -> int:
        """The flow cookie that GWLB gave it."""
        return geneve_identity(self.header)[1]

    @property
    def endpoint(self) -> str:
        """The GWLB endpoint, "vpce-…"."""
        return format_endpoint(self.lane.endpoint_id)

    @property
    def zone(self) -> str:
        """The configured zone of the endpoint."""
        return self._zone.name

    @property
    def protocol(self) -> str:
        """ "tcp", "udp", "icmp", "icmpv6", else the protocol number as text."""
        protocol = self.lane.protocol
        return PROTOCOLS.get(protocol) or str(protocol)

    @property
    def client_ip(self) -> bytes:
        """Address of the end that opened the flow."""
        return unpack_ends(self.ends)[0]

    @property
    def server_ip(self) -> bytes:
        """Address of the other end."""
        return unpack_ends(self.ends)[1]

    @property
    def client_port(self) -> int:
        """Port of the client, 0 = the protocol has none."""
        return unpack_ends(self.ends)[2]

    @property
    def server_port(self) -> int:
        """Port of the server, 0 = the protocol has none."""
        return unpack_ends(self.ends)[3]

    @property
    def app(self) -> str:
        """The application protocol; "" as long as it is undecided."""
        return ""

    @property
    def established(self) -> bool:
        """TCP: the handshake is complete. Others: both ends have sent something."""
        if self.tcp is not None:
            return self.tcp.established
        return bool(self.packets_to_server and self.packets_to_client)

    @property
    def stats_at(self) -> float:
        """The time as of which the counters are complete."""
        return self.last_seen

    def alert(
        self, message: str, *, rule: str | int = "", severity: int = 2, **fields: Any
    ) -> None:
        """Report something a person should know about this flow; 1 is high, 3 is low severity."""
        self._owner.alert(self, message, str(rule), severity, fields)

    def set(self, verdict: Verdict) -> None:
        """Decide the flow outside a packet: from a timer or a reload. DROP counts as BLOCK."""
        self._owner.decide(self, verdict)

    def hold(self, answer: Awaitable[Any], *, timeout_s: float, otherwise: Verdict) -> Hold:
        """Have the flow wait for a verdict: `return flow.hold(ask(ip), timeout_s=…, otherwise=…)`.

        For `flow_opened`, whose answer may also be a handler, `packet` and `data`. The awaitable
        runs in the worker's event loop and must not block it. The flow's packets queue meanwhile,
        up to `[engine.hold] packets`; `otherwise` counts if no answer comes within `timeout_s`
        (at most `longest_s`), or there is no room to wait.
        """
        return Hold(answer, timeout_s, otherwise)

    def record(self, packets: int) -> None:
        """Keep the last `packets` of this flow, as they come, for `save`; 0: no longer.

        They are copies, and the flow is never bypassed meanwhile: for flows that need it. Bounded
        by `[engine.record]`.
        """
        self._owner.record(self, packets)

    def save(self, reason: str, *, and_next: int = 0) -> None:
        """Have what is on record written to a file, and the next `and_next` packets with it.

        They become an event, `Recorded`; `[events] captures` is the folder for the files. It comes
        early where `[engine.record]` has no room for more.
        """
        self._owner.save(self, reason, and_next)

    def inspect(self) -> Inspection:
        """For the engine: what plugins have to do with it, to be changed."""
        if self._inspection is UNINSPECTED:
            self._inspection = Inspection()
        return self._inspection

    def info(self) -> FlowInfo:
        """The flow as events name it."""
        client, server, client_port, server_port = unpack_ends(self.ends)
        attachment_id, cookie = geneve_identity(self.header)
        return FlowInfo(
            id=self.id,
            endpoint=self.endpoint,
            zone=self.zone,
            protocol=self.protocol,
            client_ip=_text(client),
            server_ip=_text(server),
            client_port=client_port,
            server_port=server_port,
            cookie=cookie,
            attachment_id=attachment_id,
            app=self.app,
        )

    def __str__(self) -> str:
        return f"{self.info()} ({self.endpoint})"

    def __repr__(self) -> str:
        return f"<Flow {self}>"


def _text(address: bytes) -> str:
    """An address as text; IPv4 without `ipaddress`, which takes several times as long."""
    if len(address) != 4:
        return str(ipaddress.ip_address(address))
    a, b, c, d = address
    return f"{a}.{b}.{c}.{d}"
