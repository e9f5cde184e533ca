"""Faults that real implementations have or had, and the mutants that have them here."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """One fault of one implementation."""

    implementation: str
    fault: str
    mutants: tuple[str, ...]
    unseen: str = ""
    """Why no case can see it, if no mutant has it."""


KNOWN = (
    Fault(
        "gwlbtun",
        "does not clear what it read of the packet before: the flags that say which options were "
        "there are never initialised",
        ("uninitialised",),
    ),
    Fault("gwlbtun", "reads an option's data without a look at the end", ("option-overrun",)),
    Fault("gwlbtun", "ignores IHL when it reads ports", ("ports-at-twenty",)),
    Fault("gwlbtun", "takes bytes of later fragments for ports", ("later-fragments-have-ports",)),
    Fault("gwlbtun", "does not walk IPv6 extension headers", ("extensions-are-protocols",)),
    Fault("gwlbtun", "wants more than 20 bytes of packet", ("more-than-a-header",)),
    Fault("gwlbtun", "trusts the version, not the protocol type", ("believes-the-packet",)),
    Fault("gwlbtun", "ignores the O bit", ("forwards-control-packets",)),
    Fault("gwlbtun, before its pull request 15", "keeps a tuple's first cookie", ("first-header",)),
    Fault("gwlbtun", "answers with the tuple's newest header", ("header-after-verdict",)),
    Fault("gwlbtun", "opens a device for each endpoint", ("device-for-each-endpoint",)),
    Fault("gwlbtun", "never sets the UDP checksum of its replies", ("garbage-checksum",)),
    Fault("gwlb-xdp", "trusts the protocol type, not the packet", ("believes-the-header",)),
    Fault("gwlb-xdp", "drops attachment ids other than 0", ("only-attachment-zero",)),
    Fault("gwlb-xdp", "drops network identifiers other than 0", ("only-network-zero",)),
    Fault("gwlb-xdp", "drops every other layout of the options", ("one-layout",)),
    Fault("gwlb-xdp, before", "knows ICMP by its addresses alone", ("pings-without-identifier",)),
    Fault("FreeBSD", "subtracts an option's words from bytes", ("counts-words-for-bytes",)),
    Fault("FreeBSD", "swaps 32 of an endpoint's 64 bits", ("half-an-endpoint",)),
    Fault("gopacket", "takes option lengths for four bits", ("option-length-of-four-bits",)),
    Fault("Suricata", "drops packets with reserved bits set", ("strict-reserved-bits",)),
    Fault(
        "Suricata",
        "takes any packet from or to port 6081 for GENEVE",
        ("any-port-6081", "judges-what-is-in-geneve"),
    ),
    Fault(
        "Suricata",
        "a verdict on the packet inside a tunnel does not reach the packet outside",
        ("verdict-stays-inside",),
    ),
    Fault(
        "flowdog",
        "connects a socket for each port to one node",
        ("socket-of-the-first-node",),
    ),
    Fault("flowdog", "waits in its loop for the slowest flow", ("waits-for-the-slowest",)),
    Fault("flowdog", "knows flows by their cookie alone", ("cookie-is-the-flow",)),
    Fault("Linux geneve device", "cannot send a flow's options back", ("no-options-in-replies",)),
    Fault("fck-nat", "stays healthy while packets are lost", ("always-well",)),
    Fault("a UDP socket", "swaps ports with addresses", ("swaps-ports",)),
)
