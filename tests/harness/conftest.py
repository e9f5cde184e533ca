"""Topologies for tests over UDP: an address range of their own."""

from __future__ import annotations

import msgspec
import pytest

from appliance_sdk.harness import Topology, free_loopback, shipped_topology


@pytest.fixture
def simple() -> Topology:
    """The shipped `simple`, on loopback addresses that nobody else uses."""
    return msgspec.structs.replace(shipped_topology("simple"), loopback=free_loopback())
