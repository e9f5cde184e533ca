"""Takes packets over the links that have faults, and puts on record what became of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from appliance_sdk.harness.faults import Direction, Faults
from appliance_sdk.harness.trace import Transit

HOLD_S = 0.1
"""How long a packet waits to be overtaken."""

Arrive: TypeAlias = Callable[[float, Transit, bytes], None]
"""Takes a packet at the far end of its link."""


class Carrier(Protocol):
    """What the links need of the network."""

    def copy(self, transit: Transit) -> Transit:
        """Another packet with the same bytes."""

    def note(self, transit: Transit, now: float, place: str, event: str, detail: str) -> None:
        """One more hop of a packet."""

    def later(self, now: float, delay_s: float, action: Callable[[float], None]) -> None:
        """Call something when its time has come."""


class _Held:
    """Packets that wait to be overtaken."""

    def __init__(self, packets: list[tuple[Transit, bytes]], arrive: Arrive, delay_s: float):
        self.packets = packets
        self.arrive = arrive
        self.delay_s = delay_s


class Links:
    """Every link with a fault, of any target or host."""

    def __init__(self, faults: Faults, carrier: Carrier) -> None:
        self._faults = faults
        self._carrier = carrier
        self._held: dict[tuple[str, Direction], _Held] = {}

    def cross(
        self,
        now: float,
        name: str,
        direction: Direction,
        transit: Transit,
        packet: bytes,
        arrive: Arrive,
        *,
        geneve: bool,
    ) -> None:
        """A packet sets out to or from a target or host; `arrive` is called for what arrives.

        `geneve`: it is a GENEVE datagram, so that a flipped bit may be in that header.
        """
        fate = self._faults.fate(name, direction, len(packet))
        place = f"{direction} {name}"

        def happens(to: Transit, what: str, event: str, detail: str) -> None:
            self._faults.count(name, what)
            self._carrier.note(to, now, place, event, detail)

        if fate.lost:
            happens(transit, "loss", "lost", fate.lost)
            return
        if fate.bit >= 0:
            where = _place(packet, fate.bit // 8, geneve)
            packet = _flip(packet, fate.bit)
            happens(transit, "corrupt", "corrupted", f"bit {fate.bit % 8} of {where}")
        if fate.keep >= 0:
            happens(transit, "truncate", "truncated", f"to {fate.keep} of {len(packet)} bytes")
            packet = packet[: fate.keep]
        if fate.delay_s:
            happens(transit, "delay", "delayed", f"by {fate.delay_s * 1000:.3f} ms")
        packets = [(transit, packet)]
        if fate.duplicated:
            copy = self._carrier.copy(transit)
            happens(copy, "duplicate", "duplicated", f"a copy of packet {transit.number}")
            packets.append((copy, packet))
        held = self._held.pop((name, direction), None)
        if fate.overtaken and held is None:
            waits = _Held(packets, arrive, fate.delay_s)
            self._held[name, direction] = waits
            self._carrier.later(now, HOLD_S, lambda at: self._expire(at, name, direction, waits))
            return
        self._arrive(now, packets, arrive, fate.delay_s)
        if held is not None:
            for one, _ in held.packets:
                happens(one, "reorder", "reordered", f"overtaken by packet {transit.number}")
            self._arrive(now, held.packets, held.arrive, max(held.delay_s, fate.delay_s))

    def _expire(self, now: float, name: str, direction: Direction, held: _Held) -> None:
        if self._held.get((name, direction)) is not held:
            return
        del self._held[name, direction]
        for transit, _ in held.packets:
            self._carrier.note(transit, now, f"{direction} {name}", "late", "nothing overtook it")
        self._arrive(now, held.packets, held.arrive, held.delay_s)

    def _arrive(
        self, now: float, packets: list[tuple[Transit, bytes]], arrive: Arrive, delay_s: float
    ) -> None:
        def all_arrive(at: float) -> None:
            for transit, packet in packets:
                arrive(at, transit, packet)

        if delay_s:
            self._carrier.later(now, delay_s, all_arrive)
        else:
            all_arrive(now)


def _flip(packet: bytes, bit: int) -> bytes:
    out = bytearray(packet)
    out[bit // 8] ^= 0x80 >> bit % 8
    return bytes(out)


def _place(packet: bytes, byte: int, geneve: bool) -> str:
    """Where a byte stands: in the GENEVE header, its options among it, or behind it."""
    header = 8 + (packet[0] & 0x3F) * 4 if geneve else 0
    if byte < header:
        return f"byte {byte} of the GENEVE header"
    return f"byte {byte - header} of the {'inner packet' if geneve else 'packet'}"
