"""Pictures of topologies: everything is on them, nothing overlaps, hostile names do no harm."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import msgspec
import pytest

from appliance_sdk.harness import Topology, shipped_topology
from appliance_sdk.harness.draw_svg import Box, draw_svg, lay_out
from appliance_sdk.harness.draw_text import draw_text

SVG = "{http://www.w3.org/2000/svg}"


def large() -> Topology:
    """Two VPCs with the same ranges, three zones, twelve targets."""
    zones = ("a", "b", "c")
    gateways = {
        "fw": {
            "zones": zones,
            "targets": {f"t{n}": {"zone": zones[n % 3]} for n in range(8)},
        },
        "ids": {"targets": {f"i{n}": {"zone": "a"} for n in range(4)}},
    }
    vpcs = {}
    for name in ("one", "two"):
        subnets = {
            f"gwlbe-{zone}": {"cidrs": [f"10.0.{n}.0/24"], "zone": zone, "routes": "out"}
            for n, zone in enumerate(zones)
        }
        subnets["web"] = {"cidrs": ["10.0.10.0/24"], "zone": "a", "routes": "web"}
        endpoints = {f"e{z}": {"subnet": f"gwlbe-{z}", "gateway": "fw"} for z in zones}
        endpoints["ei"] = {"subnet": "gwlbe-a", "gateway": "ids"}
        vpcs[name] = {
            "cidrs": ["10.0.0.0/16"],
            "edge_routes": "edge",
            "subnets": subnets,
            "endpoints": endpoints,
            "route_tables": {
                "edge": {"10.0.10.0/24": "ea"},
                "out": {"0.0.0.0/0": "igw"},
                "web": {"0.0.0.0/0": "ea"},
            },
        }
    hosts = {"client": {"addresses": ["203.0.113.1"]}}
    for n, name in enumerate(("one", "two")):
        host = {"vpc": name, "subnet": "web", "addresses": ["10.0.10.5"]}
        hosts[f"web-{name}"] = {**host, "public": f"198.51.100.{n + 1}"}  # type: ignore[dict-item]
    topology = msgspec.convert({"gateways": gateways, "vpcs": vpcs, "hosts": hosts}, Topology)
    topology.check()
    return topology


PICTURES = {
    "simple": shipped_topology("simple"),
    "inline-ids": shipped_topology("inline-ids"),
    "large": large(),
}


def words(topology: Topology) -> set[str]:
    """Every name and address that must be seen."""
    found = set(topology.hosts)
    for host in topology.hosts.values():
        found.update(host.addresses)
    for name, vpc in topology.vpcs.items():
        found.update([name, *vpc.cidrs, *vpc.subnets, *vpc.endpoints])
    for name in topology.gateways:
        found.update([name, *topology.nodes(name).values()])
        found.update(word for t in topology.targets(name) for word in (t.name, t.address))
    return found


@pytest.mark.parametrize("name", PICTURES)
def test_everything_is_in_both_pictures(name: str) -> None:
    topology = PICTURES[name]
    root = ET.fromstring(draw_svg(topology))
    text = " ".join(element.text or "" for element in root.iter(f"{SVG}text"))
    for drawn in (text, draw_text(topology)):
        missing = [word for word in words(topology) if word not in drawn]
        assert not missing
    assert draw_svg(topology) == draw_svg(topology)


@pytest.mark.parametrize("name", PICTURES)
def test_no_two_boxes_overlap_and_no_text_leaves_its_box(name: str) -> None:
    layout = lay_out(PICTURES[name])
    flat = [box for box in layout.boxes if box.kind != "vpc"]
    for one, other in itertools.combinations(flat, 2):
        assert not overlap(one, other), (one.title, other.title)
    for box in layout.boxes:
        assert box.x >= 0
        assert box.x + box.width <= layout.width
        assert box.y + box.height <= layout.height
        longest = max(len(row.text) + 3 for row in [*box.rows]) if box.rows else 0
        assert max(longest, len(box.title)) * 7.2 <= box.width  # DejaVu Sans Mono at 12 px


def overlap(one: Box, other: Box) -> bool:
    beside = one.x + one.width <= other.x or other.x + other.width <= one.x
    below = one.y + one.height <= other.y or other.y + other.height <= one.y
    return not beside and not below


@pytest.mark.parametrize("name", PICTURES)
def test_lines_in_the_terminal_end_where_boxes_do(name: str) -> None:
    lines = draw_text(PICTURES[name]).splitlines()
    assert all(line == line.rstrip() for line in lines)
    inside = [line for line in lines if line.startswith("│ ")]
    assert len({line.index("│ │") if "│ │" in line else 0 for line in inside}) <= 3


def test_each_endpoint_has_an_arrow_to_its_load_balancer() -> None:
    layout = lay_out(PICTURES["large"])
    gateways = [box for box in layout.boxes if box.kind == "gateway"]
    ends = [
        points[-1] for points in layout.arrows if len(points) > 2 or points[0][1] == points[-1][1]
    ]
    assert len(ends) == 8
    for x, y in ends:
        assert any(abs(x - box.x) < 0.1 and box.y <= y <= box.y + box.height for box in gateways)


def test_names_are_escaped() -> None:
    simple = PICTURES["simple"]
    name = '<script>alert("x")</script>&'
    topology = msgspec.structs.replace(
        simple, hosts={name: simple.hosts["client"], "server": simple.hosts["server"]}
    )
    svg = draw_svg(topology)
    ET.fromstring(svg)
    assert "<script>" not in svg
    assert "&lt;script&gt;" in svg
