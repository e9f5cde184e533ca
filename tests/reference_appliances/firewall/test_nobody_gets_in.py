"""Whatever the outside sends, in whatever order: it gets in only where the inside asked before."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance_sdk.testing import Bench
from appliance_sdk.wire.build import build_icmp, build_ip, build_tcp, build_udp
from appliance_sdk.wire.packet import ACK, FIN, RST, SYN
from reference_appliances.firewall import Firewall

POLICY = """
home = "10.20.0.0/16"
midstream = "block"
[limit]
new_flows_per_second = 0
[[rule]]
name = "out"
action = "allow"
opened_by = "home"
protocol = ["tcp", "udp"]
port = [53, 443, 500]
[[rule]]
name = "rest"
action = "allow"
opened_by = "home"
protocol = ["icmp", 47]
[[rule]]
name = "no-syslog"
action = "{action}"
opened_by = "outside"
protocol = "udp"
port = [500, 514]
"""
INSIDE = [ipaddress.ip_address(f"10.20.0.{n}").packed for n in (1, 2)]
OUTSIDE = [ipaddress.ip_address(f"192.0.2.{n}").packed for n in (1, 2)]
OPEN_PORTS = {53, 443, 500}


class Sent(NamedTuple):
    """One packet, as far as the property is concerned."""

    outward: bool
    inside: bytes
    outside: bytes
    kind: str
    inside_port: int
    outside_port: int
    flags: int

    @property
    def flow(self) -> tuple[bytes, bytes, str, int, int]:
        kind = "icmp" if self.kind in ("ask", "answer") else self.kind
        ports = (self.inside_port, self.outside_port) if kind in ("tcp", "udp") else (0, 0)
        return self.inside, self.outside, kind, *ports

    def packet(self, seq: int) -> bytes:
        ends = (self.inside, self.outside) if self.outward else (self.outside, self.inside)
        ports = (self.inside_port, self.outside_port)
        ports = ports if self.outward else (ports[1], ports[0])
        if self.kind == "tcp":
            return build_tcp(*ends, *ports, seq=seq, ack=1, flags=self.flags)
        if self.kind == "udp":
            return build_udp(*ends, *ports, payload=b"data")
        if self.kind == "gre":
            return build_ip(*ends, 47, b"data")
        return build_icmp(*ends, 8 if self.kind == "ask" else 0, 0, b"\0\1\0\1data")


packets = st.builds(
    Sent,
    st.booleans(),
    st.sampled_from(INSIDE),
    st.sampled_from(OUTSIDE),
    st.sampled_from(["tcp", "udp", "gre", "ask", "answer"]),
    st.sampled_from([53, 500, 514, 40000]),
    st.sampled_from([53, 443, 500, 514, 40000]),
    st.sampled_from([SYN, SYN | ACK, ACK, ACK | FIN, RST, RST | ACK]),
)


@pytest.mark.parametrize("action", ["block", "reject"])
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sent=st.lists(packets, max_size=25))
def test_only_what_was_asked_for_comes_in(tmp_path: Path, action: str, sent: list[Sent]) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY.replace("{action}", action))
    bench = Bench(Firewall, policy=str(path))
    asked = set()
    for number, one in enumerate(sent):
        packet = one.packet(number * 1000)
        passed = packet in bench.send(packet)
        if passed and not one.outward:
            assert one.flow in asked, one
            assert one.kind != "ask"
        if passed and one.outward:
            may_open = one.kind in ("gre", "ask") or one.outside_port in OPEN_PORTS
            assert one.flow in asked or may_open, one
            assert one.kind != "answer", one  # nobody outside was ever allowed to ask
            asked.add(one.flow)
        bench.advance(0.01)


@pytest.mark.parametrize("kind", ["udp", "gre", "ask"])
def test_the_outside_cannot_keep_the_inside_from_opening(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY.replace("{action}", "reject"))
    bench = Bench(Firewall, policy=str(path))
    inward = Sent(False, INSIDE[0], OUTSIDE[0], kind, 500, 500, 0).packet(0)
    outward = Sent(True, INSIDE[0], OUTSIDE[0], kind, 500, 500, 0).packet(0)
    for _ in range(3):
        assert bench.send(inward) == []
    assert bench.send(outward) == [outward]
