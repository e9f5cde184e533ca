"""Where events go: the base class of sinks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from appliance_sdk.plugin.config import PluginConfig
from appliance_sdk.plugin.events import Event


class Sink:
    """Takes events away from the appliance: to a file, a collector, a queue.

    Lives in the supervisor process, in a thread of its own, behind a bounded queue: `write` may
    block. Events that do not fit into the queue meanwhile are counted and lost, never waited for.
    """

    config: Any

    def __init__(self, config: PluginConfig | None = None) -> None:
        self.config = config if config is not None else PluginConfig()

    def write(self, events: Sequence[Event]) -> None:
        """Write a batch, oldest first. OSError: the same batch is offered again later."""
        raise NotImplementedError(f"{type(self).__name__}.write")

    def close(self) -> None:
        """The appliance stops: flush and release what is held."""
