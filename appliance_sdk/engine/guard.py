"""Plugins that fail: counted, logged once a kind, answered by their policy, held to a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from appliance_sdk.engine.settings import EngineSettings
from appliance_sdk.plugin.handler import FlowHandler
from appliance_sdk.plugin.hold import Hold
from appliance_sdk.plugin.manager import Seat
from appliance_sdk.plugin.verdict import Action, Verdict

_KINDS_REMEMBERED = 1000


class Guard:
    """Turns what a plugin raises, or returns against the contract, into its `on_error` verdict."""

    def __init__(self, settings: EngineSettings, log: Callable[..., None]) -> None:
        self._settings = settings
        self._log = log
        self._kinds: set[tuple[str, str, str]] = set()
        self.errors: Counter[str] = Counter()
        """Errors by plugin."""
        self.calling: Seat | None = None
        """The plugin whose hook is running."""
        self.degraded: dict[str, str] = {}
        """Plugins that cannot do their work, with the reason."""

    def call(
        self, seat: Seat, hook: str, now: float, function: Callable[..., Any], *arguments: Any
    ) -> Any:
        """Call a hook that is not about a packet: its outcome, or the plugin's policy when it
        fails."""
        caller, self.calling = self.calling, seat
        try:
            outcome = function(*arguments)
        except Exception as error:  # a vendor's code may raise anything; the guard counts it
            return self.failed(seat, hook, error, now)
        finally:
            self.calling = caller
        if outcome is None or isinstance(outcome, Verdict):
            return outcome
        if isinstance(outcome, Hold):
            if hook == "flow_opened":
                return outcome
            outcome.discard()
        elif isinstance(outcome, FlowHandler) and hook in ("flow_opened", "recheck"):
            return outcome
        if hook in ("flow_closed", "stop"):  # nobody asks for their answer
            return None
        return self.nonsense(seat, hook, outcome, now)

    def failed(self, seat: Seat, hook: str, error: Exception, now: float) -> Verdict | None:
        """A hook raised: the verdict to use instead of its answer, None to go on."""
        self.errors[seat.name] += 1
        kind = (seat.name, hook, f"{type(error).__name__}:{_where(error)}")
        if kind not in self._kinds and len(self._kinds) < _KINDS_REMEMBERED:
            self._kinds.add(kind)
            self._log("plugin.error", plugin=seat.name, zone=seat.zone, hook=hook, error=error)
        self._charge(seat, now)
        if seat.on_error.action is Action.CONTINUE:
            return None
        return seat.on_error.because(f"{seat.name} failed in {hook}", rule="on_error")

    def nonsense(self, seat: Seat, hook: str, answer: Any, now: float) -> Verdict | None:
        """A hook returned something it must not: the same as an error."""
        try:
            shown = f"{answer!r:.80}"
        except Exception:  # a vendor's __repr__, too
            shown = type(answer).__name__
        problem = TypeError(f"{hook} returned {shown}, not a verdict")
        return self.failed(seat, hook, problem, now)

    def _charge(self, seat: Seat, now: float) -> None:
        if now - seat.error_since > self._settings.error_window_s:
            seat.error_since = now
            seat.error_count = 0
        seat.error_count += 1
        if seat.error_count < self._settings.error_budget or seat.tripped:
            return
        seat.tripped = True
        taken_out = seat.on_error.action is Action.CONTINUE
        self.degraded[seat.name] = "too many errors" + (": taken out" if taken_out else "")
        self._log("plugin.tripped", plugin=seat.name, zone=seat.zone, taken_out=taken_out)


def _where(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
