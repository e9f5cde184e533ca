"""Topologies: every mistake is one line with file, key and what to do; routes lead as drawn."""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.errors import ConfigError, MalformedPacket
from appliance_sdk.harness import Topology, shipped_topology
from appliance_sdk.harness.routes import RouteTable, parse_network
from appliance_sdk.harness.translation import translate_destination, translate_source
from appliance_sdk.wire import build_icmp, build_tcp, build_udp, parse_packet, transport_checksum
from appliance_sdk.wire.checksum import checksum

SHIPPED = Path(__file__).parents[2] / "appliance_sdk" / "harness" / "topologies"
SIMPLE = SHIPPED / "simple.toml"


def mistakes(name: str, topology: str) -> list[tuple[str, ...]]:
    """What is written wrong in a topology, and what must be said about it: three lines each."""
    text = Path(__file__).with_name(name).read_text().strip()
    return [
        (topology, *(line.replace("\\n", "\n") for line in entry.split("\n")))
        for entry in text.split("\n\n")
    ]


@pytest.mark.parametrize(
    ("topology", "right", "wrong", "said"),
    [*mistakes("mistakes.txt", "simple"), *mistakes("mistakes_transit.txt", "transit")],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, topology: str, right: str, wrong: str, said: str
) -> None:
    text = (SHIPPED / f"{topology}.toml").read_text()
    assert right in text
    path = tmp_path / "mistake.toml"
    path.write_text(text.replace(right, wrong, 1))
    with pytest.raises(ConfigError) as caught:
        Topology.read(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert said in line
    assert "\n" not in line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: no such file"):
        Topology.read(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="no topology 'smple' comes with the SDK"):
        shipped_topology("smple")


def test_twice_the_same_address_or_name() -> None:
    data: dict[str, Any] = tomllib.loads(SIMPLE.read_text())
    data["hosts"]["other"] = {"addresses": ["203.0.113.10"]}
    with pytest.raises(ConfigError, match=r"203\.0\.113\.10 is client's"):
        msgspec.convert(data, Topology).check()
    data["hosts"].pop("other")
    data["gateways"]["second"] = {"targets": {"appliance-1": {"zone": "a"}}}
    with pytest.raises(ConfigError, match="two targets are called appliance-1"):
        msgspec.convert(data, Topology).check()
    data["gateways"]["second"] = {
        "nodes": {"a": "127.1.1.1"},
        "targets": {"t": {"zone": "a", "address": "127.1.1.1"}},
    }
    with pytest.raises(ConfigError, match=r"127\.1\.1\.1 is the address of gateways\.second"):
        msgspec.convert(data, Topology).check()


def test_a_route_to_a_transit_gateway_wants_an_attachment() -> None:
    data: dict[str, Any] = tomllib.loads((SHIPPED / "transit.toml").read_text())
    tgw = data["transit_gateways"]["tgw"]
    del tgw["attachments"]["data"]
    tgw["route_tables"]["inspected"]["10.2.0.0/16"] = "blackhole"
    with pytest.raises(ConfigError, match=r"data\.route_tables\.out.*data is not attached to tgw"):
        msgspec.convert(data, Topology).check()


@pytest.mark.parametrize("name", ["simple", "inline-ids", "transit"])
def test_what_is_shipped_is_right(name: str) -> None:
    topology = shipped_topology(name)
    topology.check()
    nodes = [n for gateway in topology.gateways for n in topology.nodes(gateway).values()]
    targets = [t.address for gateway in topology.gateways for t in topology.targets(gateway)]
    assert len({*nodes, *targets}) == len(nodes) + len(targets)
    assert all(ipaddress.ip_address(address).is_loopback for address in (*nodes, *targets))


CIDRS = st.builds(
    lambda address, length: str(ipaddress.ip_network((address, length), strict=False)),
    st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address),
    st.integers(0, 32),
)


@given(
    st.dictionaries(CIDRS, st.sampled_from(["igw", "e1", "blackhole"])), st.integers(0, 2**32 - 1)
)
def test_the_longest_prefix_wins(routes: dict[str, str], number: int) -> None:
    table = RouteTable("t", [parse_network("10.0.0.0/16")], routes)
    address = ipaddress.IPv4Address(number)
    found = table.look_up(address.packed)
    matching = [n for n in map(ipaddress.ip_network, [*routes, "10.0.0.0/16"]) if address in n]
    if found is None:
        assert not matching
    else:
        assert found.destination.prefixlen == max(n.prefixlen for n in matching)
        assert address in found.destination


def test_a_route_for_all_of_the_vpc_takes_the_place_of_local() -> None:
    table = RouteTable("t", [parse_network("10.0.0.0/16")], {"10.0.0.0/16": "e1"})
    assert [str(route) for route in table.routes] == ["10.0.0.0/16 -> e1"]


A, B, C = (
    ipaddress.ip_address(text).packed for text in ("10.0.1.10", "203.0.113.1", "198.51.100.9")
)


def sound(packet: bytes) -> bool:
    """Whether every checksum is right, the quoted packet's header included."""
    headers = parse_packet(packet, 0, len(packet))
    if checksum(packet[:20]):
        return False
    segment = packet[headers.transport :]
    if headers.protocol == 1:
        quoted = packet[headers.payload :]
        whole = headers.icmp_type != 3 or not checksum(quoted[:20])
        return whole and not checksum(segment)
    if headers.protocol == 17 and segment[6:8] == b"\0\0":
        return True
    return not transport_checksum(headers.source, headers.destination, headers.protocol, segment)


@given(st.binary(max_size=64), st.integers(1, 65535), st.integers(0, 2**32 - 1))
def test_translated_packets_have_right_checksums(payload: bytes, port: int, seq: int) -> None:
    for packet in (
        build_tcp(A, B, port, 80, seq=seq, flags=24, payload=payload),
        build_udp(A, B, port, 53, payload=payload),
        build_icmp(A, B, 8, 0, payload),
    ):
        there = translate_source(packet, C)
        assert there[12:16] == C
        assert sound(there)
        back = translate_source(there, A)
        assert back == packet
        assert sound(translate_destination(packet, C))


def test_an_error_quotes_the_address_that_its_receiver_knows() -> None:
    # B complains to C, the public address, about a packet of A's: A must find its own in it.
    sent = translate_source(build_udp(A, B, 4000, 53, payload=b"hello"), C)
    error = build_icmp(B, C, 3, 3, bytes(4) + sent[:28])
    arrived = translate_destination(error, A)
    assert arrived[16:20] == A
    quoted = arrived[28:]
    assert quoted[12:16] == A
    assert sound(arrived)


def test_no_checksum_stays_no_checksum() -> None:
    packet = bytearray(build_udp(A, B, 4000, 53, payload=b"hello"))
    packet[26:28] = b"\0\0"
    assert translate_source(bytes(packet), C)[26:28] == b"\0\0"


@given(st.binary(max_size=60))
def test_any_bytes_are_translated_or_malformed(data: bytes) -> None:
    try:
        headers = parse_packet(data, 0, len(data))
    except MalformedPacket:
        with pytest.raises(MalformedPacket):
            translate_source(data, C)
        return
    if headers.version == 4:
        assert len(translate_source(data, C)) == len(data)
