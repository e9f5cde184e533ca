"""The GENEVE header: what RFC 8926 says of every field, with the packet that tests it."""

from __future__ import annotations

from appliance_sdk.conformance.case import MAY, MUST, Profile, case
from appliance_sdk.conformance.conversation import ENDPOINT, OTHER_ENDPOINT, Datagram
from appliance_sdk.conformance.encapsulation import (
    CONTROL,
    CRITICAL,
    option,
)
from appliance_sdk.conformance.rig import Rig, expect
from appliance_sdk.wire import build_tcp
from appliance_sdk.wire.geneve import parse_endpoint
from appliance_sdk.wire.packet import ACK, RST

_T = Profile.TRANSPORT
_UNKNOWN_CLASS = 0xFFFE


@case("geneve/shorter-than-header", MUST, _T, reference="RFC 8926 §3.4")
def shorter_than_header(rig: Rig) -> None:
    """Datagrams of 0 to 7 bytes, too short for a GENEVE header, are dropped."""
    flow = rig.tcp()
    rig.silence(*(Datagram(flow.header()[:size], b"", flow.source_port) for size in range(8)))


@case("geneve/version", MUST, _T, reference="RFC 8926 §3.4: unknown versions MUST be dropped")
def version(rig: Rig) -> None:
    """A datagram whose GENEVE version is not 0 is dropped."""
    flow = rig.tcp()
    syn = flow.syn()
    rig.silence(*(syn.changed(header=flow.header(version=number)) for number in (1, 2, 3)))


@case("geneve/options-beyond-datagram", MUST, _T, reference="RFC 8926 §3.4 (Opt Len)")
def options_beyond_datagram(rig: Rig) -> None:
    """A datagram that ends before its options do, as Opt Len tells, is dropped."""
    flow = rig.tcp()
    syn = flow.syn()
    too_long = flow.header(option_words=63)
    rig.silence(syn.changed(header=too_long), Datagram(too_long, b"", flow.source_port))


@case("geneve/no-inner-packet", MUST, _T, reference="RFC 8926 §3.4; RFC 791 §3.1")
def no_inner_packet(rig: Rig) -> None:
    """A complete GENEVE header with nothing behind it is dropped."""
    flow = rig.tcp()
    rig.silence(flow.carry(b""))


@case("geneve/largest-header", MUST, _T, reference="RFC 8926 §3.4-3.5")
def largest_header(rig: Rig) -> None:
    """A header of 260 bytes, GWLB's options and unknown ones that are not critical, comes back
    whole."""
    flow = rig.tcp()
    more = [option(7, bytes(range(124)), option_class=_UNKNOWN_CLASS)]
    more.append(option(8, b"\x5a" * 88, option_class=_UNKNOWN_CLASS))
    header = flow.header([*flow.options, *more])
    assert len(header) == 260
    rig.returned(flow.syn().changed(header=header))


@case("geneve/control-packet", MUST, _T, reference="RFC 8926 §3.4 (O bit)")
def control_packet(rig: Rig) -> None:
    """The payload of a control packet, O bit set, is not forwarded.

    gwlbtun ignores the bit; AWS sends 0, so that only a test shows it.
    """
    flow = rig.tcp()
    rig.silence(flow.syn().changed(header=flow.header(flags=CONTROL)))


@case("geneve/unknown-critical-option", MUST, _T, reference="RFC 8926 §3.5 (critical bit)")
def unknown_critical_option(rig: Rig) -> None:
    """A packet with an unknown option that is critical, its C bits set, is dropped."""
    flow = rig.tcp()
    critical = option(0x81, b"\0\0\0\1", option_class=_UNKNOWN_CLASS)
    header = flow.header([*flow.options, critical], flags=CRITICAL)
    rig.silence(flow.syn().changed(header=header))


@case("geneve/critical-option-without-flag", MUST, _T, reference="RFC 8926 §3.4-3.5 (C bits)")
def critical_option_without_flag(rig: Rig) -> None:
    """A critical option in a header whose C bit says that there is none: dropped.

    The option is unknown and critical, whatever the header says of it.
    """
    flow = rig.tcp()
    critical = option(0x81, b"\0\0\0\1", option_class=_UNKNOWN_CLASS)
    rig.silence(flow.syn().changed(header=flow.header([*flow.options, critical])))


@case("geneve/critical-flag-without-option", MUST, _T, reference="RFC 8926 §3.4 (C bit)")
def critical_flag_without_option(rig: Rig) -> None:
    """A C bit without any critical option: forwarded or dropped, but always the same."""
    flow = rig.tcp()
    syn = flow.syn().changed(header=flow.header(flags=CRITICAL))
    answers = [len(rig.answers(syn)) for _ in range(3)]
    expect(len(set(answers)) == 1, f"three equal packets were answered {answers} times")


@case("geneve/reserved-bits", MUST, _T, reference="RFC 8926 §3.4-3.5: ignored on receipt")
def reserved_bits(rig: Rig) -> None:
    """Reserved bits, of the header and of an option, are ignored and come back as they were.

    Suricata's decoder drops such packets.
    """
    flow = rig.tcp()
    unknown = option(7, b"\0\0\0\1", option_class=_UNKNOWN_CLASS, reserved=7)
    header = flow.header([*flow.options, unknown], flags=0x3F, reserved=0xFF)
    rig.returned(flow.syn().changed(header=header))


@case("geneve/ethernet-payload", MUST, _T, reference="AWS guide: GWLB encapsulates IP packets")
def ethernet_payload(rig: Rig) -> None:
    """Protocol type 0x6558, an Ethernet frame, is dropped: GWLB carries IP only."""
    flow = rig.tcp()
    syn = flow.syn()
    frame = bytes(12) + b"\x08\x00" + syn.inner
    header = flow.header(ethertype=0x6558)
    rig.silence(syn.changed(header=header, inner=frame), syn.changed(header=header))


@case("geneve/protocol-and-version-differ", MUST, _T, reference="RFC 8926 §3.4 (Protocol Type)")
def protocol_and_version_differ(rig: Rig) -> None:
    """Protocol type IPv4 in front of an IPv6 packet, or the other way round: dropped.

    gwlbtun believes the packet, gwlb-xdp the header: each forwards what the other end will not
    read.
    """
    four, six = rig.tcp(), rig.tcp(ipv6=True)
    rig.silence(
        four.syn().changed(header=four.header(ethertype=0x86DD)),
        six.syn().changed(header=six.header(ethertype=0x0800)),
    )


@case("geneve/inner-version", MUST, _T, reference="RFC 791 §3.1; RFC 8200 §3")
def inner_version(rig: Rig) -> None:
    """An inner packet of IP version 0, 5, 7 or 15 is dropped."""
    flow = rig.tcp()
    syn = flow.syn()
    rest = syn.inner[0] & 0x0F
    rig.silence(
        *(
            syn.changed(inner=bytes((number << 4 | rest,)) + syn.inner[1:])
            for number in (0, 5, 7, 15)
        )
    )


@case("geneve/network-identifier", MAY, _T, reference="observed: GWLB sends VNI 0")
def network_identifier(rig: Rig) -> None:
    """A network identifier (VNI) that is not 0 is no reason to drop, and comes back.

    AWS tells networks apart by the endpoint option and has never been seen to send another VNI.
    """
    flow = rig.tcp()
    rig.returned(flow.syn().changed(header=flow.header(vni=0x123456)))


@case("geneve/option-beyond-options", MUST, _T, reference="RFC 8926 §3.5")
def option_beyond_options(rig: Rig) -> None:
    """An option that is longer than what is left of the option area is dropped.

    gwlbtun reads on, into the inner packet.
    """
    flow = rig.tcp()
    overrun = option(7, b"\0\0\0\1", option_class=_UNKNOWN_CLASS, words=2)
    rig.silence(flow.syn().changed(header=flow.header([*flow.options, overrun])))


@case("geneve/gwlb-option-beyond-options", MUST, _T, reference="RFC 8926 §3.5")
def gwlb_option_beyond_options(rig: Rig) -> None:
    """Opt Len ends in the middle of the cookie option: dropped.

    The cookie here begins like an IPv4 header: who does not look finds a packet behind the options.
    """
    flow = rig.tcp()
    syn = flow.syn()
    flow.cookie = 0x45000000 | 4 + len(syn.inner)
    rig.silence(syn.changed(header=flow.header(option_words=7)))


@case("geneve/options-in-packet", MUST, _T, reference="RFC 8926 §3.4: Opt Len ends the options")
def options_in_packet(rig: Rig) -> None:
    """Bytes of a packet that look like GWLB's options are the packet's: they move it neither to
    another flow nor to another endpoint.

    Who reads on behind the options, as FreeBSD's driver does, lets a sender choose the endpoint
    that its packets count for, and with it the policy.
    """
    looks = 0x0108, 0x0102  # two ports that read as the head of an endpoint option
    flow, elsewhere = (
        rig.tcp(
            looks[1],
            client="198.18.3.3",
            server="198.19.3.3",
            client_port=looks[0],
            endpoint=endpoint,
        )
        for endpoint in (OTHER_ENDPOINT, ENDPOINT)
    )
    rig.returned(*flow.handshake())
    number = parse_endpoint(OTHER_ENDPOINT)
    forged = build_tcp(
        *elsewhere.ends(False),
        *looks,
        seq=number >> 32,
        ack=number & 0xFFFFFFFF,
        flags=RST | ACK,
        payload=bytes(28),  # 68 bytes in all: an option of four words, if one reads the IP header
    )
    rig.answers(elsewhere.carry(forged))
    rig.returned(flow.to_server(b"not reset"))


@case("geneve/unknown-option-first", MUST, _T, reference="RFC 8926 §3.5")
def unknown_option_first(rig: Rig) -> None:
    """Options that are unknown and not critical are skipped wherever they stand, also empty ones,
    and come back in their place."""
    flow = rig.tcp()
    endpoint, attachment, cookie = flow.options
    empty = option(7, b"", option_class=_UNKNOWN_CLASS)
    long = option(9, b"\xff" * 64, option_class=_UNKNOWN_CLASS)
    syn = flow.syn()
    for options in (
        [endpoint, empty, attachment, cookie],
        [long, endpoint, attachment, cookie],
        [endpoint, attachment, long, empty, cookie, empty],
    ):
        rig.returned(syn.changed(header=flow.header(options)))


@case("geneve/dangling-word", MUST, _T, reference="RFC 8926 §3.5: options fill the area exactly")
def dangling_word(rig: Rig) -> None:
    """An option area that ends with a word or two which are no whole option is dropped."""
    flow = rig.tcp()
    syn = flow.syn()
    for words in (1, 2):
        half = option(7, bytes(4 * (words - 1)), option_class=_UNKNOWN_CLASS, words=words + 1)
        rig.silence(syn.changed(header=flow.header([*flow.options, half])))
