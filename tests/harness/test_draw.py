"""Pictures of topologies: everything is on them, nothing overlaps, hostile names do no harm."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import msgspec
import pytest

from appliance_sdk.harness import (
    AttachmentPart,
    Topology,
    TransitGatewayPart,
    shipped_topology,
)
from appliance_sdk.harness.draw_layout import Arrow, Box, lay_out
from appliance_sdk.harness.draw_svg import draw_svg
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


def two_transit_gateways() -> Topology:
    """The shipped `transit`, with a second transit gateway that has an attachment of its own."""
    transit = shipped_topology("transit")
    second = TransitGatewayPart(
        attachments={
            "far": AttachmentPart(vpc="data", subnets=("data-a", "data-b"), routes="all"),
            "near": AttachmentPart(vpc="inspection", subnets=("tgw-a",), routes="all"),
        },
        route_tables={"all": {"10.0.0.0/16": "near", "10.2.0.0/16": "far"}, "unused": {}},
    )
    both = {**transit.transit_gateways, "second": second}
    topology = msgspec.structs.replace(transit, transit_gateways=both)
    topology.check()
    return topology


PICTURES = {
    "simple": shipped_topology("simple"),
    "inline-ids": shipped_topology("inline-ids"),
    "transit": shipped_topology("transit"),
    "large": large(),
    "two transit gateways": two_transit_gateways(),
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
    for name, part in topology.transit_gateways.items():
        found.update([f"transit gateway {name}", *part.attachments, *part.route_tables])
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


def ends_at(arrow: Arrow, box: Box) -> bool:
    """Whether an arrow's head is on the left or right edge of a box."""
    x, y = arrow.points[-1]
    edge = box.x if arrow.kind == "gateway" else box.x + box.width
    return abs(x - edge) < 0.1 and box.y <= y <= box.y + box.height


def test_each_endpoint_has_an_arrow_to_its_load_balancer() -> None:
    layout = lay_out(PICTURES["large"])
    gateways = [box for box in layout.boxes if box.kind == "gateway"]
    arrows = [arrow for arrow in layout.arrows if arrow.kind == "gateway"]
    assert len(arrows) == 8
    assert all(any(ends_at(arrow, box) for box in gateways) for arrow in arrows)


@pytest.mark.parametrize(("name", "count"), [("transit", 6), ("two transit gateways", 9)])
def test_each_attachment_has_an_arrow_to_its_row_at_the_transit_gateway(
    name: str, count: int
) -> None:
    layout = lay_out(PICTURES[name])
    boxes = [box for box in layout.boxes if box.kind == "transit"]
    arrows = [arrow for arrow in layout.arrows if arrow.kind == "transit"]
    assert len(arrows) == count
    for arrow in arrows:
        (box,) = (box for box in boxes if ends_at(arrow, box))
        heights = [box.row_y(i) - 4 for i, row in enumerate(box.rows) if row.kind == "attachment"]
        assert arrow.points[-1][1] in heights


def test_lines_to_the_transit_gateway_do_not_cross() -> None:
    arrows = [arrow for arrow in lay_out(PICTURES["transit"]).arrows if arrow.kind == "transit"]
    for one, other in itertools.permutations(arrows, 2):
        (x, top), (_, bottom) = one.points[1:3]  # the part that goes up or down
        for (left, y), (right, _) in itertools.pairwise(other.points):
            if left != right and y not in (top, bottom):
                level = min(left, right) < x < max(left, right)
                assert not (level and min(top, bottom) < y < max(top, bottom))


def test_in_the_terminal_a_line_joins_attachments_and_transit_gateway() -> None:
    lines = draw_text(PICTURES["two transit gateways"]).splitlines()
    for column, middle in ((0, 5), (2, 2)):
        signs = [line[column] for line in lines if len(line) > column]
        assert (signs.count("┌"), signs.count("├"), signs.count("└")) == (1, middle, 1)
    assert all("internet" not in line for line in lines)


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
