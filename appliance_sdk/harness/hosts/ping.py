"""Echo requests of a host and what became of them."""

from __future__ import annotations

from appliance_sdk.harness.hosts.icmp import Notice

_MAX_PENDING = 1024


class Ping:
    """One echo request; `Host.ping` sends it."""

    def __init__(self, address: str, sent_at: float) -> None:
        self.address = address
        """Who was asked."""
        self.sent_at = sent_at
        """When."""
        self.rtt_s: float | None = None
        """How long the first answer took, None while there is none."""
        self.replies = 0
        """How many answers came; more than one means that something duplicates packets."""
        self.damaged = 0
        """Answers that did not hold the bytes sent; they do not count as replies."""
        self.icmp_error: tuple[int, int] | None = None
        """Type and code of an ICMP error about it."""

    @property
    def unreachable(self) -> bool:
        """It was answered with ICMP unreachable."""
        return self.icmp_error is not None


class Pings:
    """The echo requests that may still be answered: the newest 1,024."""

    def __init__(self, identifier: int) -> None:
        self.identifier = identifier
        self._sequence = 0
        self._pending: dict[int, tuple[Ping, bytes, bytes]] = {}

    def add(self, ping: Ping, target: bytes, data: bytes) -> int:
        """Note an echo request; its sequence number."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._pending.pop(self._sequence, None)
        if len(self._pending) >= _MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[self._sequence] = (ping, target, data)
        return self._sequence

    def answered(self, source: bytes, body: bytes, now: float) -> bool:
        """Take an echo reply, from the identifier on; whether it was waited for."""
        ping, target, data = self._find(int.from_bytes(body[:4], "big"))
        if ping is None or target != source or len(body) < 4:
            return False
        if body[4:] != data:
            ping.damaged += 1
            return True
        ping.replies += 1
        if ping.rtt_s is None:
            ping.rtt_s = now - ping.sent_at
        return True

    def notice(self, notice: Notice) -> bool:
        """Take an ICMP error about an echo request; whether it was one of these."""
        ping, target, _data = self._find(notice.number)
        if ping is None or target != notice.destination:
            return False
        ping.icmp_error = (notice.kind, notice.code)
        return True

    def _find(self, number: int) -> tuple[Ping | None, bytes, bytes]:
        if number >> 16 != self.identifier:
            return None, b"", b""
        return self._pending.get(number & 0xFFFF, (None, b"", b""))
