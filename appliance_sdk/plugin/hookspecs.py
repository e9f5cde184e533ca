"""Every hook, in call order: when it is called, what it guarantees, what it may return.

A method of a `Plugin` subclass with one of the names in `PLUGIN_HOOKS` is the hook. On a plain
object or module, mark the function with `@hookimpl`. Handlers have hooks of their own, listed in
`HANDLER_HOOKS` and described in `FlowHandler`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

from appliance_sdk.errors import PluginError

if TYPE_CHECKING:
    from appliance_sdk.plugin.config import PluginConfig
    from appliance_sdk.plugin.flow import Flow
    from appliance_sdk.plugin.handler import FlowHandler, Opening

hookspec = pluggy.HookspecMarker("appliance_sdk")
hookimpl = pluggy.HookimplMarker("appliance_sdk")


@hookspec
def load(config: PluginConfig) -> Any:
    """Fetch or compile what the plugin works with: a feed, a rule set.

    When: at start, on SIGHUP, and every `reload_s` seconds. Process: its own, once for all workers
    and zones with the same configuration; it may block. A class method. Returns plain data (what
    msgpack can carry), handed to `loaded`. Failure: at start the appliance does not start; later
    the old data stays in use, which is logged and counted.

    Example: `return Path(config.feed).read_text().split()`
    """


@hookspec
def loaded(data: Any) -> None:
    """Swap in what `load` returned.

    When: after `load`, before `start` the first time. Process: each worker, each zone. Must not
    block. Failure: as for `load`.

    Example: `self.bad = CidrSet(data); self.recheck_flows()`
    """


@hookspec
def start() -> None:
    """Get ready for traffic. When: once a worker and zone, before the first packet.

    `config`, `zone` and `now` are set. Failure: the appliance does not start.

    Example: `self.wake(60)`
    """


@hookspec
def flow_opened(flow: Flow) -> Opening:
    """Judge a new flow by its first packet (`flow.packet`).

    When: once a flow, unless the answer was DROP: then no flow is kept and the next packet asks
    again. Plugins are asked in the order of the configuration until one says DROP, BLOCK or
    REJECT. Returns a verdict, a `FlowHandler` that wants to see more, or None (= DONE).
    Guarantee: a non-first fragment never opens a flow. Failure: the plugin's `on_error`.

    Example: `return Verdict.REJECT.because("no telnet") if flow.server_port == 23 else None`
    """


@hookspec
def recheck(flow: Flow, handler: FlowHandler[Any] | None) -> Opening:
    """Judge a live flow again, after `recheck_flows()`.

    When: once for each live flow, some at a time between packets; bypassed flows too. `handler` is
    the one that this plugin gave, or None. Returns None (as before), DONE (no handler any more),
    a new handler, or BLOCK or REJECT. Of a flow that this plugin itself has blocked, anything but
    None, BLOCK and REJECT ends it (`rejudged`), and its next packet is asked about as a new flow.
    `flow.packet` is None. Failure: the plugin's `on_error`.

    Example: `return self.flow_opened(flow)`
    """


@hookspec
def flow_closed(flow: Flow, handler: FlowHandler[Any] | None) -> None:
    """The flow is over: `flow.end_reason` says how, the counters are final.

    When: exactly once for each flow that this plugin was asked about and that was kept (blocked
    ones too), at its end or at the stop of the appliance. Failure: counted; the flow ends anyway.

    Example: `self.emit(Record(flow.to_server.bytes), flow)`
    """


@hookspec
def woken() -> None:
    """The time asked for with `Plugin.wake` has come. Failure: counted.

    Example: `self.count("tables", len(self.tables)); self.wake(60)`
    """


@hookspec
def stop() -> None:
    """The worker stops: every flow is closed already. Failure: counted.

    Example: `self.emit(Summary(self.seen))`
    """


PLUGIN_HOOKS = (
    "load",
    "loaded",
    "start",
    "flow_opened",
    "recheck",
    "flow_closed",
    "woken",
    "stop",
)
HANDLER_HOOKS = ("packet", "data", "woken", "restored")
PLANNED_HOOKS = frozenset(
    ("app_detected", "tls_hello", "tls_certificate", "http_request", "http_response", "dns_message")
)


def refuse_near_misses(cls: type, hooks: Iterable[str]) -> None:
    """Raise PluginError if a method's name is almost a hook's: it would never be called."""
    known = set(hooks)
    for name, value in vars(cls).items():
        is_method = callable(value) or isinstance(value, classmethod | staticmethod)
        if name.startswith("_") or name in known or not is_method or hasattr(cls.__base__, name):
            continue
        if name in PLANNED_HOOKS:
            raise PluginError(cls.__name__, f"`{name}`: this version has no such hook yet")
        plain = name.removeprefix("on_").removeprefix("handle_")
        close = difflib.get_close_matches(plain, [*known, *PLANNED_HOOKS], 1, 0.8)
        if close:
            raise PluginError(
                cls.__name__,
                f"`{name}`: did you mean `{close[0]}`? (a helper of your own: give it another name "
                "or begin it with `_`)",
            )
