"""What plugins and the engine report: typed events, carried to the sinks."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class FlowInfo(msgspec.Struct, frozen=True):
    """A flow as events name it: what is needed to find it in a SIEM."""

    id: int
    endpoint: str
    zone: str
    protocol: str
    client_ip: str
    server_ip: str
    client_port: int
    server_port: int
    cookie: int = 0
    attachment_id: int = 0
    app: str = ""

    def __str__(self) -> str:
        client = show_end(self.client_ip, self.client_port)
        return f"{self.protocol} {client} -> {show_end(self.server_ip, self.server_port)}"


def show_end(ip: str, port: int) -> str:
    """An address with its port, if it has one: "10.0.0.1:80", "[2001:db8::1]:80", "10.0.0.1"."""
    if not port:
        return ip
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


class Event(msgspec.Struct, kw_only=True):
    """Base of every event. Subclass it for your own; fields must be plain data.

    `timestamp` (seconds since the epoch at the sink), `plugin` and `flow` are filled in by
    `Plugin.emit`, `packet_number` (from 1, as Wireshark counts) by a replay in memory. The class
    name in kebab case is the EVE `event_type`.
    """

    registry: ClassVar[dict[str, type[Event]]] = {}

    timestamp: float = 0.0
    plugin: str = ""
    flow: FlowInfo | None = None
    packet_number: int = 0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        Event.registry[f"{cls.__module__}:{cls.__qualname__}"] = cls


class Alert(Event):
    """Something a person should know. Severity 1 is high, 3 is low, as in Suricata.

    What signatures have besides: `gid` and `rev`, which say with `rule` (the sid) which one it was,
    and `category`, what its class is called. `gid` 0: this alert is not from a signature. `fields`
    are the `metadata` of the EVE record.
    """

    message: str
    rule: str = ""
    severity: int = 2
    action: str = "allowed"
    to_server: bool = True
    fields: dict[str, Any] = {}
    gid: int = 0
    rev: int = 0
    category: str = ""


class Dropped(Event):
    """The first packet of a flow that a verdict or policy dropped."""

    action: str
    reason: str
    rule: str = ""
    to_server: bool = True
    length: int = 0


class FlowEnded(Event):
    """One for each flow that was in the table, at its end."""

    opened_at: float
    last_seen: float
    ended_at: float
    packets_to_server: int
    bytes_to_server: int
    packets_to_client: int
    bytes_to_client: int
    verdict: str
    reason: str
    rule: str
    decided_by: str
    end_reason: str
    midstream: bool
    direction_sure: bool
    tcp_state: str = ""


class Anomaly(Event):
    """Traffic that breaks a rule of its protocol, by reason, at most one a reason and second."""

    layer: str
    reason: str
    count: int = 1


class RecordedPacket(msgspec.Struct, array_like=True, frozen=True):
    """One packet of a flow that was saved, as it came."""

    age_s: float
    """How long before the event."""
    to_server: bool
    peer: bytes
    """UDP source port and IPv4 address of the load balancer's node: six bytes."""
    local: bytes
    """IPv4 address that it went to."""
    datagram: bytes
    """UDP payload: GENEVE header and inner packet."""


class Recorded(Event):
    """What `flow.save()` saved, oldest first. In EVE records only how much it is."""

    reason: str
    packets: tuple[RecordedPacket, ...] = ()


class Statistics(Event):
    """Counters since start, now and then."""

    counters: dict[str, int]
