"""Write security appliances for AWS Gateway Load Balancer in Python.

An appliance is a subclass of `Appliance`, plugins are subclasses of `Plugin`; their methods are the
hooks. `appliance_sdk.testing.Bench` tries them without a socket.
"""

from typing import TYPE_CHECKING, Any

from appliance_sdk.errors import ApplianceError, ConfigError, MalformedPacket, PluginError
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.chunk import Chunk
from appliance_sdk.plugin.cidr import CidrSet
from appliance_sdk.plugin.config import PluginConfig, decode_config, near_miss, read_toml
from appliance_sdk.plugin.events import (
    Alert,
    Anomaly,
    Dropped,
    Event,
    FlowEnded,
    FlowInfo,
    Recorded,
    RecordedPacket,
    show_end,
)
from appliance_sdk.plugin.flow import Flow, Stats
from appliance_sdk.plugin.handler import FlowHandler, Opening, Outcome
from appliance_sdk.plugin.hookspecs import hookimpl
from appliance_sdk.plugin.packet import Packet, Tcp
from appliance_sdk.plugin.shared import Shared
from appliance_sdk.plugin.sink import Sink
from appliance_sdk.plugin.verdict import Action, Policy, Verdict
from appliance_sdk.version import __version__

if TYPE_CHECKING:
    from appliance_sdk.cli.appliance import Appliance

__all__ = [
    "Action",
    "Alert",
    "Anomaly",
    "Appliance",
    "ApplianceError",
    "Chunk",
    "CidrSet",
    "ConfigError",
    "Dropped",
    "Event",
    "Flow",
    "FlowEnded",
    "FlowHandler",
    "FlowInfo",
    "MalformedPacket",
    "Opening",
    "Outcome",
    "Packet",
    "Plugin",
    "PluginConfig",
    "PluginError",
    "Policy",
    "Recorded",
    "RecordedPacket",
    "Shared",
    "Sink",
    "Stats",
    "Tcp",
    "Verdict",
    "__version__",
    "decode_config",
    "hookimpl",
    "near_miss",
    "read_toml",
    "show_end",
]


def __getattr__(name: str) -> Any:
    # Appliance brings the server and the command line with it: loaded when it is asked for.
    if name == "Appliance":
        from appliance_sdk.cli.appliance import Appliance

        return Appliance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
