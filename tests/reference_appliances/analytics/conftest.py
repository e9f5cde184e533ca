"""Openings of real protocols."""

from __future__ import annotations

import ssl

import pytest

from appliance_sdk import FlowInfo
from reference_appliances.analytics import FlowRecord, Talker, TopTalkers


def client_hello(name: str | None) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def flow_event(number: int = 1, *, timestamp: float = 1_795_451_482.0) -> FlowRecord:
    """The record of a flow of `number` packets to the server."""
    info = FlowInfo(
        id=number,
        endpoint="vpce-0a1b2c3d4e5f60718",
        zone="default",
        protocol="tcp",
        client_ip="10.0.0.1",
        server_ip="10.0.0.2",
        client_port=4000 + number,
        server_port=443,
    )
    return FlowRecord(
        timestamp=timestamp,
        flow=info,
        duration_s=2.0,
        silent_s=0.5,
        to_server_packets=number,
        to_server_bytes=100 * number,
        to_client_packets=1,
        to_client_bytes=40,
        direction_sure=True,
        midstream=False,
        end_reason="fin",
        verdict="forward",
        application="tls",
        host="a.example",
    )


def top_event(*, timestamp: float = 1_795_451_482.0) -> TopTalkers:
    """A ranking of one."""
    return TopTalkers(
        timestamp=timestamp,
        zone="default",
        fields=["endpoint", "client_ip"],
        period_s=300.0,
        total_bytes=1000,
        bound_bytes=0,
        talkers=[Talker(["vpce-1", "10.0.0.1"], 900, 0, 3)],
    )
