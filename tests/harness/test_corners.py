"""The corner cases of a Gateway Load Balancer that the harness must show, each with its test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GATEWAY = {
    26: "test_udp_fleet.py::test_a_reply_with_a_wrong_outer_checksum_does_not_arrive",
    38: "test_gateway_flows.py::test_a_port_used_again_is_another_flow_with_another_cookie",
    42: "test_gateway_flows.py::test_a_reply_must_keep_addresses_and_ports",
    43: "test_gateway_flows.py::test_a_reply_must_keep_the_header_and_the_tuple",
    44: "test_gateway_flows.py::test_the_same_tuple_behind_two_endpoints_is_two_flows",
    45: "test_gateway_flows.py::test_a_reply_must_keep_addresses_and_ports",
    46: "test_gateway_flows.py::test_a_reply_must_keep_the_header_and_the_tuple",
    47: "test_gateway_encapsulation.py::test_an_appliance_cannot_open_a_flow",
    48: "test_gateway_flows.py::test_a_reply_must_keep_addresses_and_ports",
    50: "test_gateway_flows.py::test_switches_let_in_what_some_have_seen_enter",
    59: "test_gateway_flows.py::test_without_ports_a_flow_is_two_addresses_and_a_protocol",
    61: "test_gateway_flows.py::test_without_ports_a_flow_is_two_addresses_and_a_protocol",
    70: "test_gateway_encapsulation.py::test_the_other_end_has_to_answer_in_time",
    71: "test_gateway_encapsulation.py::test_a_syn_that_was_dropped_comes_again_to_the_same_target",
    72: "test_gateway_flows.py::test_a_reject_of_both_ends_comes_through",
    73: "test_gateway_flows.py::test_a_reject_of_both_ends_comes_through",
    74: "test_gateway_flows.py::test_a_reject_of_both_ends_comes_through",
    75: "test_gateway_flows.py::test_what_does_not_enter",
    76: "test_gateway_flows.py::test_with_reset_on_idle_timeout_the_sender_is_told",
    77: "test_gateway_encapsulation.py::test_after_expiry_a_syn_may_go_to_another_target",
    78: "test_gateway_encapsulation.py::test_a_keepalive_is_enough",
    79: "test_gateway_encapsulation.py::test_a_late_fin_is_dropped",
    83: "test_gateway_flows.py::test_a_flow_is_forgotten_at_its_idle_timeout_and_not_before",
    84: "test_gateway_attributes.py::test_what_aws_refuses_is_refused",
    85: "test_probes.py::test_a_closed_port",
    86: "test_probes.py::test_http_is_judged_by_its_status_line",
    87: "test_probes.py::test_who_accepts_and_says_nothing_times_out",
    91: "test_gateway_failover.py::test_a_target_that_fails_its_checks_on_purpose_drains",
    92: "test_gateway_failover.py::test_no_rebalance_keeps_flows_on_an_unhealthy_target",
    94: "test_gateway_failover.py::test_rebalance_moves_flows_and_does_not_move_them_back",
    95: "test_gateway_failover.py::test_all_unhealthy_fails_open_at_random_and_stays",
    96: "test_gateway_failover.py::test_deregistration_drains_and_then_leaves_or_moves",
    97: "test_gateway_failover.py::test_registering_again_while_draining_keeps_the_flows",
    98: "test_gateway_attributes.py::test_what_aws_refuses_is_refused",
    99: "test_gateway_attributes.py::test_what_aws_refuses_is_refused",
    100: "test_gateway_failover.py::test_after_a_reset_the_second_end_has_no_flow",
    101: "test_gateway_failover.py::test_a_new_target_gets_new_flows_only",
    102: "test_gateway_failover.py::test_zones_are_on_their_own_unless_cross_zone_is_on",
    103: "test_gateway_failover.py::test_zones_are_on_their_own_unless_cross_zone_is_on",
    104: "test_gateway_flows.py::test_stickiness_keeps_more_together",
    106: "test_probes.py::test_tls_1_3_alone_fails",
}
"""By the number of the row in section 9 of the fact sheet: flows, targets, health, replies."""

ROUTING = {
    107: "test_mistakes_in_routes.py::test_without_an_edge_route_answers_have_no_entry",
    108: "test_mistakes_in_routes.py::test_answers_straight_to_the_gateway_are_seen_by_nobody",
    109: "test_mistakes_across_zones.py::test_two_zones_without_appliance_mode",
    110: "test_mistakes_in_routes.py::test_an_endpoint_whose_table_leads_back_to_it",
    111: "test_mistakes.py::test_the_appliance_sees_client_and_site_by_their_own_addresses",
}
"""By the number of the row in section 9 of the fact sheet: the ways of packets."""

CORNERS = {**GATEWAY, **ROUTING}


@pytest.mark.parametrize("row", CORNERS)
def test_the_row_has_its_test(row: int) -> None:
    name, _, function = CORNERS[row].partition("::")
    text = Path(__file__).with_name(name).read_text()
    assert re.search(rf"^def {function}\(", text, re.M), CORNERS[row]
