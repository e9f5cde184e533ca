"""The IP layer of a host: which packets are its own and sound, what answers ICMP, what is sent."""

from __future__ import annotations

import ipaddress
import random
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.harness.hosts.arrival import Fragments, find_damage
from appliance_sdk.harness.hosts.icmp import (
    ECHO_REPLY,
    ECHO_REQUEST,
    Notice,
    build_echo,
    build_echo_reply,
    is_icmp,
    read_notice,
)
from appliance_sdk.harness.hosts.ping import Ping, Pings
from appliance_sdk.wire import Headers, fragment_packet, parse_packet
from appliance_sdk.wire.packet import ICMP, ICMPV6, TCP, UDP

_MAX_OUTBOX = 65536
_SMALLEST_MTU = 576


class Stack:
    """What `Host` stands on: addresses, checks, ICMP, the outbox. Not for use on its own."""

    def __init__(self, name: str, addresses: Sequence[str], *, seed: int, mtu: int) -> None:
        if not _SMALLEST_MTU <= mtu <= 65535:
            raise ValueError(f"mtu of {name} is {mtu}: use {_SMALLEST_MTU} to 65,535 bytes")
        if isinstance(addresses, str) or not addresses:
            raise ValueError(f'{name} needs a list of addresses, such as ["10.0.0.1"]')
        self.name = name
        """What it is called in messages."""
        self.mtu = mtu
        """The largest packet in bytes that it sends in one piece or accepts."""
        self.random = random.Random(f"{seed}:{name}")
        """Where everything that looks like chance on this host comes from."""
        self.outbox: list[bytes] = []
        """Packets that it sends, oldest first; whoever carries them takes and clears them."""
        self.dropped: Counter[str] = Counter()
        """Packets not taken, by reason: not_addressed (to another host), own_address (from one of
        its own), malformed, too_big (for its MTU), ip_checksum, tcp_checksum, udp_checksum,
        udp_length, icmp_checksum, no_protocol, icmp_unexpected, no_room (as many connections as it
        takes), and outbox_full for what it did not send."""
        self._packed = [ipaddress.ip_address(address).packed for address in addresses]
        self.addresses = tuple(str(ipaddress.ip_address(packed)) for packed in self._packed)
        """Its addresses, IPv4 and IPv6; the first of a version is the one that it sends from."""
        self._fragments = Fragments()
        self._pings = Pings(self.random.randrange(1, 0x10000))

    def ping(self, address: str, now: float, *, size: int = 56) -> Ping:
        """Send an echo request with `size` bytes of data. Raises ValueError for an address of a
        version that the host has none of, or more data than a packet holds."""
        source, target = self._route(address)
        if not 0 <= size <= 65_000:
            raise ValueError(f"size is {size}: use 0 to 65,000 bytes")
        data = bytes(i & 0xFF for i in range(size))
        ping = Ping(address, now)
        sequence = self._pings.add(ping, target, data)
        self._send(build_echo(source, target, self._pings.identifier, sequence, data))
        return ping

    def _take(self, packet: bytes, now: float) -> None:
        try:
            headers = parse_packet(packet, 0, len(packet))
        except MalformedPacket:
            self.dropped["malformed"] += 1
            return
        reason = ""
        if headers.destination not in self._packed:
            reason = "not_addressed"
        elif headers.source in self._packed:
            reason = "own_address"
        elif headers.end > self.mtu:
            reason = "too_big"
        else:
            reason = find_damage(packet, headers)
        if reason:
            self.dropped[reason] += 1
        elif headers.is_fragment:
            whole = self._fragments.add(packet, headers, now)
            if whole is not None:
                self._take_whole(whole, now)
        else:
            self._dispatch(packet, headers, now)

    def _take_whole(self, packet: bytes, now: float) -> None:
        """A packet put together from fragments that were each checked."""
        try:
            headers = parse_packet(packet, 0, len(packet))
        except MalformedPacket:
            self.dropped["malformed"] += 1
            return
        reason = find_damage(packet, headers)
        if reason:
            self.dropped[reason] += 1
        else:
            self._dispatch(packet, headers, now)

    def _dispatch(self, packet: bytes, headers: Headers, now: float) -> None:
        if headers.protocol == TCP:
            self._take_tcp(packet, headers, now)
        elif headers.protocol == UDP:
            self._take_udp(packet, headers, now)
        elif is_icmp(headers):
            self._take_icmp(packet, headers, now)
        else:
            self.dropped["no_protocol"] += 1

    def _take_icmp(self, packet: bytes, headers: Headers, now: float) -> None:
        if headers.icmp_type == ECHO_REQUEST[headers.version]:
            if not _is_group(headers.source):
                self._send(build_echo_reply(packet, headers))
            return
        if headers.icmp_type == ECHO_REPLY[headers.version]:
            body = packet[headers.transport + 4 : headers.end]
            known = self._pings.answered(headers.source, body, now)
        else:
            notice = read_notice(packet, headers)
            known = notice is not None and self._take_notice(notice)
        if not known:
            self.dropped["icmp_unexpected"] += 1

    def _take_notice(self, notice: Notice) -> bool:
        """Give an ICMP error to what it is about; whether there is such a thing."""
        if notice.source not in self._packed:
            return False
        if notice.protocol in (ICMP, ICMPV6):
            return self._pings.notice(notice)
        return self._take_transport_notice(notice)

    def _route(self, address: str, source: str = "") -> tuple[bytes, bytes]:
        """The packed addresses from and to which a packet for `address` goes. Raises ValueError."""
        target = ipaddress.ip_address(address).packed
        if source and source not in self.addresses:
            raise ValueError(f"{self.name} does not have {source}: it has {self.addresses}")
        for packed, text in zip(self._packed, self.addresses, strict=True):
            if len(packed) == len(target) and source in ("", text):
                return packed, target
        version = "IPv4" if len(target) == 4 else "IPv6"
        raise ValueError(f"{self.name} has no {version} address to reach {address} from")

    def _send(self, packet: bytes) -> None:
        """Put a packet in the outbox, in fragments if it is too large."""
        packets = [packet]
        if len(packet) > self.mtu:
            if packet[0] >> 4 == 4:
                identification = self.random.randrange(1, 0x10000).to_bytes(2, "big")
                packet = packet[:4] + identification + packet[6:]
            packets = fragment_packet(packet, self.mtu)
        if len(self.outbox) + len(packets) > _MAX_OUTBOX:
            self.dropped["outbox_full"] += len(packets)
        else:
            self.outbox += packets

    @abstractmethod
    def _take_tcp(self, packet: bytes, headers: Headers, now: float) -> None: ...

    @abstractmethod
    def _take_udp(self, packet: bytes, headers: Headers, now: float) -> None: ...

    @abstractmethod
    def _take_transport_notice(self, notice: Notice) -> bool: ...


def _is_group(address: bytes) -> bool:
    return not any(address) or (address[0] >> 4 == 0xE if len(address) == 4 else address[0] == 0xFF)
