"""What analytics reports: a record for each flow that ended, and now and then who has most."""

from __future__ import annotations

import msgspec

from appliance_sdk import Event


class FlowRecord(Event):
    """A flow is over; `flow` says which. It was silent since `silent_s` seconds ago."""

    duration_s: float
    """From its first packet to its last."""
    silent_s: float
    """From its last packet to this event."""
    to_server_packets: int
    to_server_bytes: int
    """Of inner packets, from the IP header on; what was dropped is counted, too."""
    to_client_packets: int
    to_client_bytes: int
    direction_sure: bool
    midstream: bool
    end_reason: str
    verdict: str
    """ "forward", or what another plugin said: "block" or "reject"."""
    application: str
    host: str


class Talker(msgspec.Struct):
    """One line of a ranking."""

    key: list[str]
    """The values of the ranking's fields."""
    bytes: int
    """Never too low; too high by at most `over_bytes`."""
    over_bytes: int
    flows: int
    """At least so many; exact if `over_bytes` is 0."""


class TopTalkers(Event):
    """Who had most bytes, both directions, in the flows that ended in a period."""

    zone: str
    fields: list[str]
    """What is ranked, such as ["endpoint", "client_ip"]."""
    period_s: float
    total_bytes: int
    """Of all flows, those that are not in the ranking included."""
    bound_bytes: int
    """What is not in the ranking's memory had at most so many; 0: nothing was left out."""
    talkers: list[Talker]
