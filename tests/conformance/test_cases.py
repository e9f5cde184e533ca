"""The list of cases: each is well formed, and every corner case of GWLB that is known has one."""

from __future__ import annotations

import re

import pytest

from appliance_sdk.conformance.case import MUST, Case, Profile, all_cases, case
from appliance_sdk.conformance.features import Features, feature_texts

# The corner cases of the fact sheet on GWLB that concern an appliance, by their number there.
CORNERS: dict[str, str] = {
    "1": "geneve/shorter-than-header",
    "2": "geneve/version",
    "3": "geneve/options-beyond-datagram",
    "4": "gwlb/no-options",
    "5": "geneve/largest-header",
    "6": "geneve/control-packet",
    "7": "geneve/unknown-critical-option",
    "8": "geneve/critical-option-without-flag",
    "9": "geneve/critical-flag-without-option",
    "10": "geneve/reserved-bits",
    "11": "geneve/ethernet-payload",
    "12": "geneve/protocol-and-version-differ",
    "13": "geneve/inner-version",
    "14": "geneve/network-identifier",
    "15": "geneve/option-beyond-options",
    "16": "geneve/dangling-word",
    "17": "geneve/unknown-option-first",
    "18": "gwlb/option-length",
    "19": "gwlb/option-missing",
    "20": "gwlb/option-order",
    "21": "gwlb/option-repeated",
    "22": "gwlb/future-option",
    "23": "gwlb/other-clouds",
    "24": "gwlb/attachment",
    "25": "reply/outer-checksum",
    "26": "reply/outer-checksum",
    "27": "origin/stranger",
    "28": "inner/trailing-bytes",
    "29": "inner/truncated",
    "30": "inner/header-length inner/ip-options firewall/ip-options",
    "31": "reply/addresses-and-ports",
    "32": "reply/asked-address",
    "33": "reply/header-unchanged",
    "34": "reply/any-port reply/port-6081",
    "35": "reply/shared-port",
    "36": "reply/newest-port",
    "37": "reply/newest-node",
    "38": "reply/newest-cookie",
    "39": "reply/own-cookie",
    "40": "reply/own-cookie",
    "49": "size/8500",
    "50": "size/over-8500",
    "52": "size/8500 size/1500",
    "54": "fragment/in-order firewall/fragments-denied",
    "55": "fragment/without-first fragment/out-of-order firewall/fragments-denied-reversed",
    "56": "fragment/overlapping fragment/tiny-first firewall/fragment-overlap",
    "57": "tuple/extension-headers firewall/extension-headers",
    "58": "tuple/no-next-header",
    "59": "inner/ping",
    "60": "tuple/icmp-error firewall/icmp-error-of-denied",
    "61": "tuple/other-protocols",
    "62": "inner/udp-without-checksum size/udp-length",
    "63": "inner/bad-checksum tuple/tcp-offset ids/damaged-segment",
    "64": "tuple/two-endpoints firewall/endpoints",
    "65": "tuple/one-address tuple/equal-ports firewall/same-address",
    "66": "gwlb/every-endpoint",
    "67": "tuple/many-endpoints",
    "68": "inner/source-port-6081",
    "69": "inner/multicast",
    "71": "flow/retransmissions firewall/drop-stays",
    "72": "firewall/reject-tcp firewall/reject-encapsulation",
    "73": "firewall/reject-midstream",
    "79": "flow/last-ack",
    "80": "flow/reuse-after-close",
    "81": "flow/midstream firewall/midstream-denied",
    "82": "flow/reset-by-gwlb",
    "83": "flow/idle-udp",
    "88": "health/at-once health/at-once-in-2-s",
    "89": "health/opened-and-closed health/reset",
    "90": "health/data-path-hangs health/data-path-dies",
    "91": "operations/drain-fails-checks operations/drain-takes-flows operations/terminate",
    "92": "operations/drain-serves-flows",
    "93": "flow/midstream-steady",
    "95": "operations/drain-takes-flows",
    "103": "reply/two-nodes",
    "105": "health/tcp",
    "108": "flow/one-sided ids/one-sided",
    "112": "gwlb/endpoint-replaced",
    "113": "robust/random-datagrams",
    "114": "operations/flows-after-crash",
    "118": "reply/once",
    "119": "reply/order",
    "120": "operations/drain-loses-nothing",
}

NOT_ASKED: dict[str, str] = {
    "41": "data that an appliance sends without a packet is its own decision: nothing provokes it",
    "47": "a flow of an appliance's own is its decision too; the harness drops it, and says why",
    "51": "what an appliance adds is not known from outside; size/over-8500-not-returned is near",
    "53": "whether an appliance sends ICMP for GWLB is its choice",
    "111": "a fact about the picture around it, shown by the harness",
    "115": "where an appliance says what its kernel dropped is its own affair; the SDK's is tested",
    "116": "the clock of another process cannot be moved",
    "117": "how to make an inspector fail is known to its author only; tested in the SDK",
}


@pytest.mark.parametrize("number", CORNERS, ids=lambda number: f"corner-{number}")
def test_every_known_corner_has_a_case(number: str) -> None:
    for id in CORNERS[number].split():
        assert id in all_cases()


def test_what_is_not_asked_has_a_reason() -> None:
    assert not set(NOT_ASKED) & set(CORNERS)
    assert all(len(reason) > 20 for reason in NOT_ASKED.values())


@pytest.mark.parametrize("one", all_cases().values(), ids=lambda one: one.id)
def test_a_case_says_what_it_requires(one: Case) -> None:
    assert re.fullmatch(r"[a-z]+/[a-z0-9-]+", one.id)
    assert one.requirement.endswith(".")
    assert len(one.requirement) < 220
    assert one.reference


def test_profiles_come_in_order_and_each_has_cases() -> None:
    order = [one.profile for one in all_cases().values()]
    assert order == sorted(order, key=list(Profile).index)
    assert {Profile.TRANSPORT, Profile.FLOW} <= set(order)


def test_every_feature_is_explained() -> None:
    texts = feature_texts()
    assert set(texts) == set(Features.__struct_fields__)
    assert all(text.endswith(".") for text in texts.values())


def test_a_case_with_an_unknown_need_or_a_known_id_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="antigravity"):
        case("made/one", MUST, Profile.FLOW, needs=("antigravity",), reference="-")
    with pytest.raises(ValueError, match="known already"):
        case("geneve/version", MUST, Profile.FLOW, reference="-")
