"""A verdict that is not there yet: an awaitable that will give it, and what counts until then."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from appliance_sdk.plugin.verdict import Verdict


class Hold:
    """Made by `flow.hold()` only; return it from `flow_opened`, `packet` or `data`."""

    __slots__ = ("answer", "otherwise", "timeout_s")

    def __init__(self, answer: Awaitable[Any], timeout_s: float, otherwise: Verdict) -> None:
        if not hasattr(answer, "__await__"):
            raise TypeError(f"hold() takes an awaitable, not {answer!r:.60}")
        if not isinstance(otherwise, Verdict) or not timeout_s > 0:
            self.answer = answer
            self.discard()
            raise TypeError(f"hold(timeout_s={timeout_s!r}, otherwise={otherwise!r:.60})")
        self.answer = answer
        self.timeout_s = timeout_s
        self.otherwise = otherwise

    def discard(self) -> None:
        """For the engine: nobody will wait for the answer."""
        close = getattr(self.answer, "close", None) or getattr(self.answer, "cancel", None)
        if close is not None:
            close()
