from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.errors import ConfigError
from appliance_sdk.plugin.cidr import CidrSet

networks = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)),
    st.tuples(st.ip_addresses(v=6), st.integers(0, 128)),
).map(lambda pair: str(ipaddress.ip_network(pair, strict=False)))


@given(st.lists(networks, max_size=8), st.ip_addresses())
def test_membership_is_that_of_the_standard_library(
    cidrs: list[str], ip: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    expected = any(ip in n for n in map(ipaddress.ip_network, cidrs) if n.version == ip.version)
    assert (ip.packed in CidrSet(cidrs)) is expected


def test_host_bits_and_nonsense_are_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 10\.0\.0\.0/8\?"):
        CidrSet(["10.0.0.1/8"])
    with pytest.raises(ConfigError, match="not a network"):
        CidrSet(["ten"])
