"""The demo's load: small HTTP requests, some each second, each a connection of its own."""

from __future__ import annotations

from collections import Counter

from appliance_sdk.harness import Harness
from appliance_sdk.harness.hosts import Host, HttpExchange, http_get

RATE = 4.0
"""Requests a second of the harness's clock."""
_PATIENCE_S = 20.0


class Load:
    """Asks for a page again and again while it is `on`, and remembers how each request went."""

    def __init__(self, harness: Harness, client: Host, site: str, address: str) -> None:
        self.on = False
        self.asked = 0
        self.answered = 0
        self.failed: Counter[str] = Counter()
        """Requests that got no answer, by why."""
        self._harness = harness
        self._client = client
        self._site = site
        self._address = address
        self._next = 0.0
        self._open: list[tuple[float, HttpExchange]] = []

    def turn(self, now: float) -> None:
        """Start what is due and take note of what has ended."""
        if self.on and now >= self._next:
            self._next = max(self._next + 1 / RATE, now)
            self.asked += 1
            headers = (("Host", self._site),)
            exchange = http_get(self._client, self._address, 80, "/", now, headers=headers)
            self._open.append((now, exchange))
        waiting = []
        for began, exchange in self._open:
            if exchange.done and exchange.status == 200:
                self.answered += 1
            elif exchange.done or exchange.failed or now - began > _PATIENCE_S:
                self.failed[exchange.failed or f"status {exchange.status}"] += 1
            else:
                waiting.append((began, exchange))
        self._open = waiting

    @property
    def waiting(self) -> int:
        """Requests that are under way."""
        return len(self._open)
