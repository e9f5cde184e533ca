"""The load balancer alone: one flow there and back."""

from __future__ import annotations

from appliance_sdk.harness.balancer import Dropped, GatewayLoadBalancer, ToEndpoint, ToTarget
from appliance_sdk.wire import build_tcp

A, B = b"\xcb\0\x71\x0a", b"\x0a\0\1\x0a"
EP = "vpce-0a1b2c3d4e5f60718"


def test_there_and_back() -> None:
    lb = GatewayLoadBalancer({"a": "10.9.0.11"})
    lb.add_endpoint(EP, "a")
    lb.register("fw", "10.9.1.21", "a", 0.0)
    for _ in range(5):
        lb.probed("fw", "a", "", 0.0)
    syn = build_tcp(A, B, 4000, 80, seq=1, flags=2)
    out = lb.from_endpoint(EP, syn, 1.0)
    assert isinstance(out, ToTarget)
    back = lb.from_target(("10.9.1.21", out.source_port), ("10.9.0.11", 6081), out.payload, 1.0)
    assert back == ToEndpoint(EP, syn, "fw")
    swapped = lb.from_target(("10.9.1.21", 6081), ("10.9.0.11", out.source_port), out.payload, 1.0)
    assert isinstance(swapped, Dropped)
    assert swapped.reason == "bad_ports"
    answer = build_tcp(B, A, 80, 4000, seq=9, ack=2, flags=0x12)
    again = lb.from_endpoint(EP, answer, 1.1)
    assert isinstance(again, ToTarget)
    assert again.cookie == out.cookie
