"""The corner cases of a Gateway Load Balancer that the harness must show, each with its test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROUTING = {
    107: "test_mistakes.py::test_without_an_edge_route_answers_have_no_entry",
    108: "test_mistakes.py::test_answers_straight_to_the_internet_gateway_are_seen_by_nobody",
    109: "test_mistakes.py::test_two_zones_without_appliance_mode",
    110: "test_mistakes.py::test_an_endpoint_whose_table_leads_back_to_it",
    111: "test_mistakes.py::test_the_appliance_sees_client_and_site_by_their_own_addresses",
}
"""By the number of the row in section 9 of the fact sheet: the ways of packets."""

CORNERS = {**ROUTING}


@pytest.mark.parametrize("row", CORNERS)
def test_the_row_has_its_test(row: int) -> None:
    name, _, function = CORNERS[row].partition("::")
    text = Path(__file__).with_name(name).read_text()
    assert re.search(rf"^def {function}\(", text, re.M), CORNERS[row]
