"""The per-flow half of a plugin: an object whose fields are the plugin's state for that flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias

import msgspec

from appliance_sdk.plugin.hold import Hold
from appliance_sdk.plugin.hookspecs import HANDLER_HOOKS, refuse_near_misses
from appliance_sdk.plugin.verdict import Verdict

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from appliance_sdk.plugin.base import Plugin
    from appliance_sdk.plugin.chunk import Chunk
    from appliance_sdk.plugin.flow import Flow
    from appliance_sdk.plugin.packet import Packet

    P = TypeVar("P", bound="Plugin", default="Plugin")
else:
    from typing import TypeVar

    P = TypeVar("P")

Outcome: TypeAlias = Verdict | Hold | None
"""What a hook may return: a verdict, or one to come (`flow.hold()`); None is CONTINUE."""


class FlowHandler(msgspec.Struct, Generic[P], kw_only=True, eq=False):
    """Return one from `flow_opened` to see more of the flow.

    Annotated fields are the state of the flow: public ones are saved and restored (numbers, text,
    bytes, lists, sets, tuples, dicts, structs), those that begin with `_` are not. Methods that the
    subclass does not define are never computed. `FlowHandler["MyPlugin"]` types `.plugin`.
    """

    lookback: ClassVar[int] = 0
    """How many earlier bytes each chunk begins with, so that no match is lost at a border."""
    edits: ClassVar[bool] = False
    """The handler masks stream bytes; out-of-order segments then wait for the missing ones."""

    fragments: ClassVar[bool] = False
    """Show `packet` the first fragment of each packet, too, by itself: to drop it is to drop the
    others. Without it fragments are forwarded as they come, and only the packet that the last one
    completes is shown and can be dropped."""

    registry: ClassVar[dict[str, type[FlowHandler[Any]]]] = {}
    """For the engine: every handler class by "module:name": how saved states find theirs."""

    _flow: Any = None
    _seat: Any = None
    _wake_in_s: float | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        refuse_near_misses(cls, HANDLER_HOOKS)
        FlowHandler.registry[f"{cls.__module__}:{cls.__qualname__}"] = cls

    @property
    def flow(self) -> Flow:
        """The flow this handler belongs to."""
        flow: Flow = self._flow
        return flow

    @property
    def plugin(self) -> P:
        """The plugin that made it: its instance for this zone and worker."""
        plugin: P = self._seat.plugin
        return plugin

    def wake(self, after_s: float) -> None:
        """Have `woken` called in `after_s` seconds; a second call moves the first."""
        after_s = max(0.0, after_s)
        if self._flow is None:
            self._wake_in_s = after_s
        else:
            self._flow._owner.wake(self, after_s)

    def packet(self, packet: Packet) -> Outcome:
        """Each packet of the flow, before TCP tracking and reassembly."""

    def data(self, chunk: Chunk) -> Outcome:
        """Stream bytes in order (TCP), or one payload (UDP). DROP on TCP counts as BLOCK."""

    def woken(self) -> Outcome:
        """The time asked for with `wake` has come; also for flows that are bypassed."""

    def restored(self) -> None:
        """The fields were loaded from a saved state; set the private ones again."""


Opening: TypeAlias = Outcome | FlowHandler[Any]
"""What `flow_opened` may return: an outcome or a handler; None is DONE."""
