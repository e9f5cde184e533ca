"""Try plugins and appliances without a network: start with `Bench`."""

from appliance_sdk.engine.settings import EngineSettings
from appliance_sdk.plugin.manager import ZoneSettings
from appliance_sdk.testing.bench import Bench
from appliance_sdk.testing.peers import TcpPeers, UdpPeers

__all__ = ["Bench", "EngineSettings", "TcpPeers", "UdpPeers", "ZoneSettings"]
