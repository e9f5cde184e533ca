"""Appliances that are wrong in one way each, and the right one that they are made from."""

from mutants import (  # noqa: F401 - importing them is what registers them
    wrong_alerts,
    wrong_altogether,
    wrong_flows,
    wrong_headers,
    wrong_packets,
    wrong_refusals,
    wrong_replies,
    wrong_rules,
    wrong_sizes,
    wrong_states,
    wrong_streams,
)
