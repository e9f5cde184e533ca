"""Flows: keys, the table, TCP tracking, reassembly, fragments, expiry and the state codec."""
