"""Every reason for which bytes from the wire are malformed, in one list."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

MALFORMED: Mapping[str, str] = MappingProxyType(
    {
        "geneve_too_short": "Fewer bytes than a GENEVE header (RFC 8926 §3.4).",
        "geneve_version": "A GENEVE version other than 0 (RFC 8926 §3.4).",
        "geneve_options_length": "The GENEVE options do not fit into the datagram.",
        "geneve_option_overrun": "A GENEVE option reaches beyond the options (RFC 8926 §3.5).",
        "geneve_control": "A GENEVE control packet, whose payload must not be forwarded.",
        "geneve_critical_option": "A GENEVE option that must be understood, and is not.",
        "geneve_critical_flag": "A critical GENEVE option without the flag that announces it, "
        "or (strict) the flag without such an option.",
        "geneve_protocol": "GENEVE carries something other than IPv4 or IPv6.",
        "geneve_vni": "Strict: a virtual network identifier, which GWLB does not use.",
        "gwlb_option_missing": "One of the three GWLB options is missing.",
        "gwlb_option_length": "A GWLB option has the wrong length.",
        "gwlb_option_repeated": "A GWLB option stands twice and differs, or (strict) at all.",
        "foreign_options": "The options of another cloud's load balancer.",
        "inner_version": "The inner packet is neither IPv4 nor IPv6.",
        "inner_version_mismatch": "The inner packet is not of the version that GENEVE announces.",
        "ip_truncated": "The IP packet is longer than the bytes that came.",
        "ip_header_length": "The IPv4 header length is impossible.",
        "ip_total_length": "The IP length is shorter than the headers.",
        "ipv6_jumbogram": "An IPv6 payload length of 0: a jumbogram, which no VPC carries.",
        "ipv6_chain": "The IPv6 extension headers are truncated, too many, or fragment twice.",
        "tcp_truncated": "Fewer bytes than a TCP header.",
        "tcp_offset": "The TCP data offset is impossible.",
        "udp_truncated": "Fewer bytes than a UDP header.",
        "icmp_truncated": "Fewer bytes than an ICMP header.",
        "not_ip": "The frame carries something other than IP.",
        "unknown_link": "The capture's link type is not supported.",
        "truncated_link": "Fewer bytes than the frame's link header.",
    }
)
