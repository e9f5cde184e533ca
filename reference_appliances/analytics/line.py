"""The lines of a record file: flat, so that any tool can read them. Names say the units."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from appliance_sdk import Event
from reference_appliances.analytics.events import FlowRecord, TopTalkers


class FlowLine(msgspec.Struct, tag_field="record", tag="flow"):
    """A flow that ended."""

    start_epoch_s: float
    """Seconds since 1970-01-01 UTC."""
    end_epoch_s: float
    duration_s: float
    endpoint: str
    zone: str
    protocol: str
    client_ip: str
    client_port: int
    server_ip: str
    server_port: int
    direction_sure: bool
    midstream: bool
    to_server_packets: int
    to_server_bytes: int
    to_client_packets: int
    to_client_bytes: int
    end_reason: str
    verdict: str
    application: str
    host: str


class TopLine(msgspec.Struct, tag_field="record", tag="top"):
    """One place of a ranking."""

    end_epoch_s: float
    period_s: float
    zone: str
    fields: str
    """What is ranked, separated by commas."""
    place: int
    key: str
    """The values of the fields, separated by commas."""
    bytes: int
    over_bytes: int
    flows: int
    total_bytes: int
    bound_bytes: int


Line: TypeAlias = FlowLine | TopLine


def lines_of(event: Event) -> list[Line]:
    """The lines of an event; of another plugin's: none."""
    if isinstance(event, FlowRecord):
        return [flow_line(event)]
    if isinstance(event, TopTalkers):
        return _top_lines(event)
    return []


def flow_line(event: FlowRecord) -> FlowLine:
    """The line of a flow."""
    flow = event.flow
    assert flow is not None
    end = event.timestamp - event.silent_s
    return FlowLine(
        start_epoch_s=round(end - event.duration_s, 6),
        end_epoch_s=round(end, 6),
        duration_s=round(event.duration_s, 6),
        endpoint=flow.endpoint,
        zone=flow.zone,
        protocol=flow.protocol,
        client_ip=flow.client_ip,
        client_port=flow.client_port,
        server_ip=flow.server_ip,
        server_port=flow.server_port,
        direction_sure=event.direction_sure,
        midstream=event.midstream,
        to_server_packets=event.to_server_packets,
        to_server_bytes=event.to_server_bytes,
        to_client_packets=event.to_client_packets,
        to_client_bytes=event.to_client_bytes,
        end_reason=event.end_reason,
        verdict=event.verdict,
        application=event.application,
        host=event.host,
    )


def _top_lines(event: TopTalkers) -> list[Line]:
    return [
        TopLine(
            end_epoch_s=round(event.timestamp, 6),
            period_s=round(event.period_s, 6),
            zone=event.zone,
            fields=",".join(event.fields),
            place=place,
            key=",".join(talker.key),
            bytes=talker.bytes,
            over_bytes=talker.over_bytes,
            flows=talker.flows,
            total_bytes=event.total_bytes,
            bound_bytes=event.bound_bytes,
        )
        for place, talker in enumerate(event.talkers, 1)
    ]
