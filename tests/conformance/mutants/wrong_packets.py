"""Mutants that read the packet inside as somebody once did, or do not give it back as it came."""

from __future__ import annotations

import struct

from appliance_sdk.conformance.compare import Reply
from appliance_sdk.conformance.packets import with_checksum
from appliance_sdk.wire.checksum import checksum
from mutants.headers import Header
from mutants.mutant import mutant
from mutants.packets import ICMP, ICMP6, NO_NEXT, TCP, UDP, Packet, Piece
from mutants.right import Flow, Key, Outer, Right


@mutant("geneve/no-inner-packet", "robust/damaged-datagrams")
class WantsAPacket(Right):
    """Reads the first byte behind the GENEVE header, there or not, and dies."""

    def is_there(self, raw: bytes) -> bool:
        return True


@mutant("geneve/inner-version")
class NotSixIsFour(Right):
    """Takes what is not IPv6 for IPv4."""

    def takes_version_inside(self, version: int) -> bool:
        return True

    def agree(self, protocol: int, version: int) -> bool:
        return protocol == (0x86DD if version == 6 else 0x0800)

    def is_ipv4(self, protocol: int, version: int) -> bool:
        return version != 6


@mutant("inner/shorter-than-header", "robust/damaged-datagrams")
class ReadsHeadersThatAreNotThere(Right):
    """Reads an IP header before it looks whether it came, and dies."""

    def has_header(self, here: int, size: int) -> bool:
        return True


@mutant("inner/truncated")
class TakesTruncated(Right):
    """Does not look whether all of a packet came."""

    def takes_lengths(self, header: int, total: int, here: int) -> bool:
        return 20 <= header <= total

    def takes_lengths6(self, end: int, here: int) -> bool:
        return True


@mutant("inner/header-length")
class AnyHeaderLength(Right):
    """Does not look whether an IPv4 header can be as long as it says."""

    def takes_lengths(self, header: int, total: int, here: int) -> bool:
        return 20 <= total <= here


@mutant("inner/ip-options")
class NoIpOptions(Right):
    """Drops packets with IPv4 options."""

    def takes_lengths(self, header: int, total: int, here: int) -> bool:
        return header == 20 and super().takes_lengths(header, total, here)


@mutant("inner/trailing-bytes")
class NothingMayTrail(Right):
    """Drops packets behind which there is padding."""

    def takes_lengths(self, header: int, total: int, here: int) -> bool:
        return total == here and super().takes_lengths(header, total, here)


@mutant("inner/tiny", origin="gwlbtun")
class MoreThanAHeader(Right):
    """Wants more than 20 bytes of packet."""

    def takes_lengths(self, header: int, total: int, here: int) -> bool:
        return total > 20 and super().takes_lengths(header, total, here)


@mutant("inner/source-port-6081", origin="suricata")
class AnyPort6081(Right):
    """Takes UDP from or to port 6081 for GENEVE, also inside, and forwards what that carries."""

    def reply_packet(self, packet: Packet) -> bytes:
        inside = packet.protocol == UDP and 6081 in packet.ports
        return packet.raw[68:] if inside else packet.raw


@mutant("inner/multicast")
class ForwardsMulticast(Right):
    """Forwards packets to multicast and broadcast addresses."""

    def takes_destination(self, destination: bytes) -> bool:
        return True


# What comes back is not what came.


@mutant("inner/ttl", origin="gwlbtun")
class Routes(Right):
    """Lets the kernel route the packet, which takes one from its TTL."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        hops = packet.raw[8 if len(packet.source) == 4 else 7]
        return hops > 1 and super().forwards(flow, packet, header, now)

    def reply_packet(self, packet: Packet) -> bytes:
        changed = bytearray(packet.raw)
        if len(packet.source) == 4:
            changed[8] -= 1
            return with_checksum(changed)
        changed[7] -= 1
        return bytes(changed)


@mutant("inner/unaltered", "flow/keep-alive")
class PayloadIsText(Right):
    """Copies TCP payload as C copies a string: up to the first byte that is 0."""

    def reply_packet(self, packet: Packet) -> bytes:
        if packet.protocol != TCP or 0 not in packet.data:
            return packet.raw
        return packet.raw[: -len(packet.data)] + packet.data.split(b"\0")[0]


@mutant("inner/dscp-ecn-df")
class ClearsDscp(Right):
    """Gives back every IPv4 packet with a TOS byte of 0."""

    def reply_packet(self, packet: Packet) -> bytes:
        raw = packet.raw
        return with_checksum(raw[:1] + b"\0" + raw[2:]) if raw[0] >> 4 == 4 and raw[1] else raw


@mutant("inner/bad-checksum", "inner/udp-without-checksum", "size/udp-length")
class RepairsChecksums(Right):
    """Writes the right UDP checksum in every IPv4 packet."""

    def reply_packet(self, packet: Packet) -> bytes:
        size = len(packet.body)
        if packet.protocol != UDP or len(packet.source) != 4 or packet.piece or size < 8:
            return packet.raw
        pseudo = packet.source + packet.destination + struct.pack(">HH", UDP, size)
        zeroed = packet.body[:6] + b"\0\0" + packet.body[8:]
        right = checksum(pseudo + zeroed) or 0xFFFF
        at = self.ihl(packet.raw[0])
        return packet.raw[: at + 6] + struct.pack(">H", right) + packet.raw[at + 8 :]


@mutant("inner/udp-without-checksum")
class WantsUdpChecksums(Right):
    """Drops UDP without a checksum."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        none = packet.protocol == UDP and any(packet.ports) and packet.body[6:8] == b"\0\0"
        return not none and super().forwards(flow, packet, header, now)


@mutant("size/udp-length")
class CutsToUdpLength(Right):
    """Cuts an IPv4 packet to the length that its UDP header says."""

    def reply_packet(self, packet: Packet) -> bytes:
        if packet.protocol != UDP or packet.piece or len(packet.body) < 8:
            return packet.raw
        length = int.from_bytes(packet.body[4:6], "big")
        return packet.raw[: len(packet.raw) - len(packet.body) + max(length, 8)]


# Protocols.


@mutant(
    "inner/ipv6",
    "size/8500-ipv6",
    "fragment/in-order-ipv6",
    "tuple/extension-headers",
    "tuple/no-next-header",
    "flow/connection-ipv6",
)
class NoIpv6(Right):
    """Drops IPv6."""

    def takes_protocol(self, protocol: int) -> bool:
        return protocol == 0x0800


@mutant("inner/ping", "reply/once", "tuple/icmp-error-of-flow")
class NoPing(Right):
    """Drops ICMP."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        return packet.protocol != ICMP and super().forwards(flow, packet, header, now)


@mutant("tuple/other-protocols", "tuple/no-next-header", "inner/tiny")
class KnowsThree(Right):
    """Drops what is not TCP, UDP or ICMP."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        known = packet.protocol in (TCP, UDP, ICMP, ICMP6) or packet.piece is not None
        return known and super().forwards(flow, packet, header, now)


@mutant("tuple/no-next-header", "inner/tiny")
class NothingToForward(Right):
    """Drops packets that say that nothing follows their header."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        return packet.protocol != NO_NEXT and super().forwards(flow, packet, header, now)


@mutant("tuple/short-transport")
class ReadsPortsThatAreNotThere(Right):
    """Reads ports of TCP and UDP without a look at the packet's end, and dies."""

    def transport(self, packet: Packet) -> Packet:
        first = packet.piece is None or not packet.piece.offset
        if packet.protocol in (TCP, UDP) and first:
            struct.unpack_from(">HH", packet.body)
        return super().transport(packet)


@mutant("tuple/tcp-offset", "robust/damaged-datagrams")
class WalksTcpOptions(Right):
    """Walks over TCP options as far as Data Offset says, beyond the packet, and dies."""

    def transport(self, packet: Packet) -> Packet:
        read = super().transport(packet)
        if packet.protocol == TCP and any(read.ports):
            at = 20
            while at < 4 * (packet.body[12] >> 4) and (kind := packet.body[at]):
                at += 1 if kind == 1 else max(packet.body[at + 1], 2)
        return read


@mutant("tuple/icmp-error")
class LimitsIcmpErrors(Right):
    """Forwards one ICMP error of each flow in a second."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        if packet.protocol == ICMP and packet.body[:1] in (b"\x03", b"\x0b"):
            before = flow.notes.get("error", -1.0)
            flow.notes["error"] = now
            if now - before < 1.0:
                return False
        return super().forwards(flow, packet, header, now)


@mutant("tuple/icmp-error-of-flow")
class NoIcmpErrors(Right):
    """Drops ICMP errors."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        error = packet.protocol == ICMP and packet.body[:1] in (b"\x03", b"\x0b")
        return not error and super().forwards(flow, packet, header, now)


@mutant("tuple/icmp-error-truncated")
class BelievesQuotations(Right):
    """Reads the flow that an ICMP error quotes, all of it or not, and dies."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        if packet.protocol == ICMP and packet.body[:1] in (b"\x03", b"\x0b"):
            quoted = packet.body[8:]
            struct.unpack_from(">HH", quoted, 4 * (quoted[0] & 0x0F))
        return super().forwards(flow, packet, header, now)


@mutant("tuple/extension-headers", "fragment/in-order-ipv6")
class NoExtensionHeaders(Right):
    """Drops IPv6 whose first header is not TCP's, UDP's or ICMP's, as if extensions were others."""

    def chain(self, raw: bytes, protocol: int, at: int, end: int) -> tuple[int, int, Piece | None]:
        return protocol, at, None

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        extension = len(packet.source) == 16 and packet.protocol in (0, 43, 44, 60)
        return not extension and super().forwards(flow, packet, header, now)


@mutant("tuple/extension-chain")
class ChainsWithoutEnd(Right):
    """Follows extension headers beyond the packet's end, and dies."""

    def chain(self, raw: bytes, protocol: int, at: int, end: int) -> tuple[int, int, Piece | None]:
        following, here = protocol, at
        while following in (0, 43, 60):
            following, here = raw[here], here + 8 + 8 * raw[here + 1]
        if following in (TCP, UDP):
            struct.unpack_from(">HH", raw, here)
        return super().chain(raw, protocol, at, end)


@mutant("tuple/equal-ports")
class LowerPortIsTheServer(Right):
    """Takes the end with the lower port for the server, and drops what has none."""

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        equal = packet.ports[0] == packet.ports[1] != 0
        return not equal and super().forwards(flow, packet, header, now)


@mutant("tuple/one-address")
class StoresBothDirections(Right):
    """Stores a flow by both its directions, and dies when they are one."""

    def key(self, packet: Packet, header: Header) -> Key:
        there = packet.source, packet.ports[0]
        back = packet.destination, packet.ports[1]
        if there == back:
            raise KeyError("the flow is there already")
        return super().key(packet, header)


@mutant("tuple/two-endpoints", "geneve/options-in-packet")
class OneTable(Right):
    """Knows flows by their 5-tuple, whichever endpoint they come from."""

    def key(self, packet: Packet, header: Header) -> Key:
        return super().key(packet, header)[1:]


@mutant("tuple/two-endpoints", "gwlb/endpoint-replaced")
class EndpointIsForLife(Right):
    """Takes another endpoint of a 5-tuple that it knows for a forgery."""

    def key(self, packet: Packet, header: Header) -> Key:
        return super().key(packet, header)[1:]

    def forwards(self, flow: Flow, packet: Packet, header: Header, now: float) -> bool:
        endpoint = flow.notes.setdefault("endpoint", header.endpoint)
        return endpoint == header.endpoint and super().forwards(flow, packet, header, now)


@mutant("tuple/many-endpoints", origin="gwlbtun")
class DeviceForEachEndpoint(Right):
    """Opens a device for each endpoint, and dies when there are no more."""

    def __init__(self, *arguments: object) -> None:
        super().__init__()
        self.devices: set[int] = set()

    def judge(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        self.devices.add(header.endpoint)
        if len(self.devices) > 1000:
            raise OSError("too many open files")
        return super().judge(packet, header, outer, now)


@mutant(
    "gwlb/every-endpoint",
    "gwlb/endpoint-replaced",
    "geneve/options-in-packet",
    "reply/header-unchanged",
    "tuple/two-endpoints",
    "tuple/same-cookie",
)
class FirstPacketMakesTheDevice(Right):
    """Loses the first packet of an endpoint while it opens a device for it."""

    def __init__(self, *arguments: object) -> None:
        super().__init__()
        self.devices = {0x0A1B2C3D4E5F60718}

    def judge(self, packet: Packet, header: Header, outer: Outer, now: float) -> list[Reply]:
        if header.endpoint not in self.devices:
            self.devices.add(header.endpoint)
            return []
        return super().judge(packet, header, outer, now)
