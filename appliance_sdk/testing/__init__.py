"""Try plugins and appliances without a network: start with `Bench`.

`InProcess`, `Subprocess` and `Running` are what a test's `appliance` fixture may return, for the
fixtures of `appliance_sdk.testing.pytest_plugin`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appliance_sdk.engine.settings import EngineSettings
    from appliance_sdk.harness.datagrams import Capture, OuterDatagram
    from appliance_sdk.harness.in_process import InProcess
    from appliance_sdk.harness.running import Running
    from appliance_sdk.harness.subprocesses import Subprocess
    from appliance_sdk.plugin.manager import ZoneSettings
    from appliance_sdk.testing.bench import Bench
    from appliance_sdk.testing.peers import TcpPeers, UdpPeers
    from appliance_sdk.testing.traffic import FlowFactory, TcpFlow, UdpFlow

__all__ = [
    "Bench",
    "Capture",
    "EngineSettings",
    "FlowFactory",
    "InProcess",
    "OuterDatagram",
    "Running",
    "Subprocess",
    "TcpFlow",
    "TcpPeers",
    "UdpFlow",
    "UdpPeers",
    "ZoneSettings",
]

_HOMES = {
    "Bench": "testing.bench",
    "Capture": "harness.datagrams",
    "EngineSettings": "engine.settings",
    "FlowFactory": "testing.traffic",
    "InProcess": "harness.in_process",
    "OuterDatagram": "harness.datagrams",
    "Running": "harness.running",
    "Subprocess": "harness.subprocesses",
    "TcpFlow": "testing.traffic",
    "TcpPeers": "testing.peers",
    "UdpFlow": "testing.traffic",
    "UdpPeers": "testing.peers",
    "ZoneSettings": "plugin.manager",
}


def __getattr__(name: str) -> Any:
    # The pytest plugin lives in this package and is loaded by every pytest there is: nothing of
    # the rest may come with it.
    if name in _HOMES:
        return getattr(importlib.import_module(f"appliance_sdk.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
