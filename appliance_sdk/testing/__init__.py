"""Try plugins and appliances without a network: start with `Bench`."""

from appliance_sdk.testing.bench import Bench
from appliance_sdk.testing.peers import TcpPeers, UdpPeers

__all__ = ["Bench", "TcpPeers", "UdpPeers"]
