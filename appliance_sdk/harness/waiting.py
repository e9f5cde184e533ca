"""Packets at appliances: which one came back, and which were kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeAlias

from appliance_sdk.harness.trace import Transit

_KEPT = 65_536
"""How many packets may be at appliances; the oldest of more count as kept."""
_LATE_KEPT = 1024
"""Packets that count as kept, but are known again if they do come back."""

_Sent: TypeAlias = tuple[float, Transit, str]


class Waiting:
    """Every packet that was sent to an appliance and has not come back."""

    def __init__(self) -> None:
        self._sent: dict[tuple[str, bytes], list[_Sent]] = {}
        self._order: OrderedDict[int, tuple[str, bytes]] = OrderedDict()
        self._late: OrderedDict[tuple[str, bytes], Transit] = OrderedDict()

    def __len__(self) -> int:
        return len(self._order)

    def sent(self, address: str, payload: bytes, transit: Transit, target: str, now: float) -> None:
        """A packet goes to the appliance with an address, in this datagram."""
        key = address, payload
        self._sent.setdefault(key, []).append((now, transit, target))
        self._order[transit.number] = key

    def returned(self, address: str, payload: bytes) -> tuple[Transit, str] | None:
        """The packet that an appliance returned as it was, with words for it; None if it is
        another one."""
        key = address, payload
        entries = self._sent.get(key)
        if entries:
            transit = entries[0][1]
            self._forget(key, entries, transit.number)
            return transit, "unaltered"
        late = self._late.pop(key, None)
        return None if late is None else (late, "unaltered, after all")

    def kept(self, before: float) -> Iterator[tuple[Transit, str]]:
        """Give up those that were sent until `before`, each with the target that has it."""
        while self._order:
            number, key = next(iter(self._order.items()))
            entries = self._sent[key]
            sent, transit, target = entries[0]
            if sent > before and len(self._order) <= _KEPT:
                return
            self._forget(key, entries, number)
            self._late[key] = transit
            if len(self._late) > _LATE_KEPT:
                self._late.popitem(last=False)
            yield transit, target

    def _forget(self, key: tuple[str, bytes], entries: list[_Sent], number: int) -> None:
        del entries[0]
        if not entries:
            del self._sent[key]
        del self._order[number]
