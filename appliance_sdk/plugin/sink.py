"""Where events go: the base class of sinks."""

from __future__ import annotations

from collections.abc import Sequence

from appliance_sdk.plugin.configurable import Configurable
from appliance_sdk.plugin.events import Event


class Sink(Configurable):
    """Takes events away from the appliance: to a file, a collector, a queue.

    Enable it like a plugin: `enable = ["my_package:MySink"]`; `[plugins.my-sink]` is its `config`.

    Lives in the supervisor process, in a thread of its own, behind a bounded queue: `write` may
    block. Events that do not fit into the queue meanwhile are counted and lost, never waited for.
    """

    def write(self, events: Sequence[Event]) -> None:
        """Write a batch, oldest first. OSError: the same batch is offered again later."""
        raise NotImplementedError(f"{type(self).__name__}.write")

    def close(self) -> None:
        """The appliance stops: flush and release what is held. What it raises is logged."""
