"""Mutants that read the GENEVE header, or its options, as somebody once did."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from appliance_sdk.conformance.compare import Reply
from mutants.headers import AWS, COOKIE, ENDPOINT, LENGTHS, Header, Option
from mutants.mutant import mutant
from mutants.packets import Packet
from mutants.right import Flow, Outer, Right


@mutant("geneve/version")
class AnyVersion(Right):
    """Does not look at GENEVE's version."""

    def takes_version(self, version: int) -> bool:
        return True


@mutant("geneve/shorter-than-header", "robust/random-datagrams", "robust/damaged-datagrams")
class ReadsBeforeItMeasures(Right):
    """Reads the eight bytes of the GENEVE header before it looks whether they came, and dies."""

    def long_enough(self, datagram: bytes) -> bool:
        return True


@mutant("geneve/options-beyond-datagram", "robust/damaged-datagrams")
class BelievesOptLen(Right):
    """Walks over as many options as Opt Len says, however short the datagram is, and dies."""

    def fits(self, size: int, datagram: bytes) -> bool:
        return True

    def options(self, datagram: bytes, at: int, end: int) -> Iterator[Option]:
        if end > len(datagram):
            raise IndexError("read beyond the datagram")
        return super().options(datagram, at, end)


@mutant("geneve/largest-header", "size/8500-largest-header")
class OptLenOfFiveBits(Right):
    """Takes Opt Len for five bits: it loses long option areas."""

    def size(self, first: int) -> int:
        return 8 + 4 * (first & 0x1F)


@mutant("geneve/control-packet", origin="gwlbtun")
class ForwardsControlPackets(Right):
    """Ignores the O bit."""

    def takes_control_packets(self) -> bool:
        return True


@mutant("geneve/reserved-bits", origin="suricata")
class StrictReservedBits(Right):
    """Drops packets whose reserved bits are not 0."""

    def takes_reserved(self, first: int, flags: int, last: int) -> bool:
        return not flags and not last


@mutant("geneve/network-identifier", origin="gwlb-xdp")
class OnlyNetworkZero(Right):
    """Drops packets whose network identifier (VNI) is not 0."""

    def takes_network(self, vni: int) -> bool:
        return vni == 0


@mutant("gwlb/attachment", origin="gwlb-xdp")
class OnlyAttachmentZero(Right):
    """Drops packets whose attachment id is not 0."""

    def takes_options(self, options: list[Option]) -> bool:
        own = [one.data for one in options if self.is_gwlbs(one) and len(one.data) == 8]
        return super().takes_options(options) and own.count(bytes(8)) == 1


@mutant(
    "geneve/largest-header",
    "geneve/reserved-bits",
    "geneve/unknown-option-first",
    "gwlb/option-order",
    "gwlb/future-option",
    "size/8500-largest-header",
    origin="gwlb-xdp",
)
class OneLayout(Right):
    """Wants endpoint, attachment and cookie in this order and nothing else."""

    def takes_options(self, options: list[Option]) -> bool:
        return super().takes_options(options) and [one.type for one in options] == [1, 2, 3]


@mutant("gwlb/option-order")
class OwnOrder(Right):
    """Wants the three options in AWS's order, among whatever else."""

    def takes_options(self, options: list[Option]) -> bool:
        own = [one.type for one in options if self.is_gwlbs(one)]
        return super().takes_options(options) and own == [1, 2, 3]


@mutant(
    "geneve/option-beyond-options",
    "geneve/gwlb-option-beyond-options",
    "geneve/dangling-word",
    origin="gwlbtun",
)
class OptionOverrun(Right):
    """Does not look whether an option ends within the option area: it reads on in the packet."""

    def options(self, datagram: bytes, at: int, end: int) -> Iterator[Option]:
        while at < end:
            option_class, kind, last = struct.unpack_from(">HBB", datagram, at)
            length = self.option_length(last)
            yield Option(option_class, kind, datagram[at + 4 : at + 4 + length])
            at += 4 + length


@mutant("geneve/options-in-packet", origin="FreeBSD")
class CountsWordsForBytes(Right):
    """Subtracts an option's words from the bytes that are left: options that stand in the packet
    count."""

    def header(self, datagram: bytes) -> Header:
        header = super().header(datagram)
        at, left = 8, len(header.raw) - 8
        values = {}
        while left > 0 and at + 4 <= len(datagram):
            option_class, kind, last = struct.unpack_from(">HBB", datagram, at)
            length = self.option_length(last)
            if option_class == AWS and LENGTHS.get(kind) == length:
                values[kind] = int.from_bytes(datagram[at + 4 : at + 4 + length], "big")
            at += 4 + length
            left -= 1 + length // 4
        return header._replace(endpoint=values[ENDPOINT], cookie=values[COOKIE])


@mutant("tuple/two-endpoints", origin="FreeBSD")
class HalfAnEndpoint(Right):
    """Reads 32 bits of the endpoint's 64: endpoints with the same first half are one."""

    def values(self, options: list[Option]) -> dict[int, int]:
        values = super().values(options)
        return {**values, ENDPOINT: values[ENDPOINT] >> 32}


@mutant(
    "geneve/largest-header",
    "geneve/unknown-option-first",
    "size/8500-largest-header",
    origin="gopacket",
)
class OptionLengthOfFourBits(Right):
    """Takes an option's length for four bits, not five: it loses its way behind long options."""

    def option_length(self, last: int) -> int:
        return 4 * (last & 0x0F)


@mutant("geneve/unknown-critical-option", "geneve/critical-option-without-flag")
class IgnoresCritical(Right):
    """Skips options that are critical and unknown."""

    def takes_critical(self, options: list[Option], flag: bool) -> bool:
        return True


@mutant("geneve/critical-option-without-flag")
class BelievesCriticalFlag(Right):
    """Looks for critical options only if the header's C bit is set."""

    def takes_critical(self, options: list[Option], flag: bool) -> bool:
        return not flag or super().takes_critical(options, flag)


@mutant("geneve/critical-flag-without-option")
class LearnsCriticalFlag(Right):
    """Drops the first packet with the C bit, to have a closer look, and takes the next ones."""

    seen = False

    def takes_critical(self, options: list[Option], flag: bool) -> bool:
        first, self.seen = flag and not self.seen, self.seen or flag
        return not first and super().takes_critical(options, flag)


@mutant(
    "geneve/largest-header",
    "geneve/reserved-bits",
    "geneve/unknown-option-first",
    "gwlb/future-option",
    "size/8500-largest-header",
)
class DropsUnknownOptions(Right):
    """Drops packets with an option that it does not know."""

    def takes_options(self, options: list[Option]) -> bool:
        return super().takes_options(options) and all(map(self.is_gwlbs, options))


@mutant("gwlb/future-option")
class DropsNewAwsOptions(Right):
    """Drops packets with an option of AWS's class that it does not know."""

    def takes_options(self, options: list[Option]) -> bool:
        unknown = [one for one in options if one.option_class == AWS and one.type not in LENGTHS]
        return super().takes_options(options) and not unknown


@mutant(
    "gwlb/no-options",
    "gwlb/option-missing",
    "gwlb/option-length",
    "gwlb/other-clouds",
    origin="gwlbtun",
)
class Uninitialised(Right):
    """Never clears what it read: an option that is missing has the last packet's value."""

    before: dict[int, int] = {}

    def takes_options(self, options: list[Option]) -> bool:
        return bool(self.before) or super().takes_options(options)

    def values(self, options: list[Option]) -> dict[int, int]:
        right = [one for one in options if len(one.data) == LENGTHS.get(one.type)]
        self.before = {**self.before, **super().values(right)}
        return self.before


@mutant("gwlb/option-missing")
class DoesWithoutAttachment(Right):
    """Takes packets without attachment option."""

    def takes_options(self, options: list[Option]) -> bool:
        own = {one.type: len(one.data) for one in options if self.is_gwlbs(one)}
        return {2: 8, **own} == LENGTHS and self.takes_repeated(options)


@mutant("gwlb/no-options")
class TakesPlainGeneve(Right):
    """Takes GENEVE without options, as other tunnels send it."""

    def takes_options(self, options: list[Option]) -> bool:
        return not options or super().takes_options(options)

    def values(self, options: list[Option]) -> dict[int, int]:
        return {ENDPOINT: 0, COOKIE: 0, **super().values(options)}


@mutant("gwlb/option-length")
class OptionsOfAnyLength(Right):
    """Does not look how long GWLB's options are."""

    def takes_options(self, options: list[Option]) -> bool:
        own = {one.type for one in options if self.is_gwlbs(one)}
        return own == set(LENGTHS) and self.takes_repeated(options)


@mutant("gwlb/option-repeated", origin="gwlbtun")
class LastCookieCounts(Right):
    """Takes the last of two cookies in one header."""

    def takes_repeated(self, options: list[Option]) -> bool:
        return True


@mutant("gwlb/other-clouds")
class IgnoresOptionClass(Right):
    """Tells options by their type alone, whatever their class."""

    def is_gwlbs(self, option: Option) -> bool:
        return option.type in LENGTHS


@mutant(
    "geneve/reserved-bits",
    "geneve/network-identifier",
    "gwlb/attachment",
    "robust/damaged-datagrams",
)
class WritesHeadersAnew(Right):
    """Makes the header of a reply from what it knows of it: what it does not know becomes 0."""

    def reply_header(self, flow: Flow, header: Header) -> bytes:
        anew = bytearray(header.raw)
        anew[1], anew[4:8] = anew[1] & 0xC0, bytes(4)
        at = anew.find(b"\x01\x08\x02\x02", 8)
        anew[at + 4 : at + 12] = bytes(8)
        return bytes(anew)


@mutant("geneve/ethernet-payload")
class TakesEthernet(Right):
    """Gives Ethernet frames back, which it cannot read."""

    def takes_protocol(self, protocol: int) -> bool:
        return protocol == 0x6558 or super().takes_protocol(protocol)

    def packet(self, protocol: int, raw: bytes) -> Packet:
        if protocol == 0x6558:
            return Packet(raw, 0, b"", b"", b"", None)
        return super().packet(protocol, raw)


@mutant("geneve/protocol-and-version-differ", origin="gwlbtun")
class BelievesThePacket(Right):
    """Trusts the version in the packet, whatever the protocol type says."""

    def agree(self, protocol: int, version: int) -> bool:
        return True


@mutant("geneve/protocol-and-version-differ", "geneve/inner-version", origin="gwlb-xdp")
class BelievesTheHeader(Right):
    """Trusts the protocol type and never reads the version in the packet."""

    def takes_version_inside(self, version: int) -> bool:
        return True

    def agree(self, protocol: int, version: int) -> bool:
        return True

    def is_ipv4(self, protocol: int, version: int) -> bool:
        return protocol == 0x0800


@mutant("origin/stranger")
class TrustsAnybody(Right):
    """Takes GENEVE from every address."""

    def trusts(self, node: str) -> bool:
        return True


@mutant("origin/stranger")
class AsksTooLate(Right):
    """Looks who sent a packet when the packet has changed its flow already."""

    def trusts(self, node: str) -> bool:
        return True

    def replies(self, flow: Flow, packet: Packet, header: Header, outer: Outer) -> list[Reply]:
        return super().replies(flow, packet, header, outer) if super().trusts(outer.node) else []
