"""The sans-IO engine: datagram in, decision out; time is an argument."""

from appliance_sdk.engine.decision import DROP, FORWARD, REPLACED
from appliance_sdk.engine.engine import Engine
from appliance_sdk.engine.reasons import DROP_REASONS
from appliance_sdk.engine.settings import EngineSettings

__all__ = ["DROP", "DROP_REASONS", "FORWARD", "REPLACED", "Engine", "EngineSettings"]
