"""What the benchmark has a load balancer do: the same everywhere, however long it takes."""

from __future__ import annotations

from appliance_sdk.harness.workload import Connections, RoundTrips, Work


def test_every_round_trip_is_made() -> None:
    assert RoundTrips(250, flows=100).run() == Work(packets=250, flows=100, left=100)


def test_every_connection_lives_and_ends() -> None:
    work = Connections(hours=0.2).run()  # more than the clients that take turns
    assert (work.packets, work.flows) == (6 * 3600, 3600)
    assert work.left <= 10  # those that closed within the last two seconds
