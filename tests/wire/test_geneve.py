"""GENEVE headers, right and wrong: what is taken, what is refused, and for which reason."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.wire.build import build_udp
from appliance_sdk.wire.geneve import (
    Option,
    build_geneve,
    format_endpoint,
    geneve_identity,
    parse_endpoint,
    parse_geneve,
    parse_options,
)
from appliance_sdk.wire.reasons import MALFORMED

INNER = build_udp(b"\x0a\0\0\x01", b"\x0a\0\0\x02", 1, 2)
INNER6 = build_udp(b"\x20" + bytes(15), b"\x20" + bytes(14) + b"\x01", 1, 2)
E1 = bytes.fromhex("01080102a1b2c3d4e5f60718")
E2 = bytes.fromhex("010802020000000000000000")
E3 = bytes.fromhex("01080301deadbeef")


def header(options: bytes, first: int = 0, flags: int = 0, ethertype: int = 0x0800) -> bytes:
    """A base header in front of raw options."""
    words = len(options) // 4
    return bytes((first | words, flags)) + ethertype.to_bytes(2, "big") + bytes(4) + options


def reason(data: bytes, *, strict: bool = False) -> str:
    """Why a datagram is refused, "" if it is taken."""
    try:
        parse_geneve(data, 0, len(data), strict=strict)
    except MalformedPacket as error:
        return error.reason
    return ""


HEADER_ONLY = header(E1 + E2 + E3)
GOOD = HEADER_ONLY + INNER
UNKNOWN = bytes.fromhex("ffff0101 00000000".replace(" ", ""))

REFUSED = {
    "1 no bytes": (b"", "geneve_too_short"),
    "1 seven bytes": (GOOD[:7], "geneve_too_short"),
    "2 version": (header(E1 + E2 + E3, first=0x40) + INNER, "geneve_version"),
    "3 options beyond the datagram": (GOOD[:30], "geneve_options_length"),
    "4 no options": (header(b"") + INNER, "gwlb_option_missing"),
    "6 control": (header(E1 + E2 + E3, flags=0x80) + INNER, "geneve_control"),
    "7 unknown critical option": (
        header(E1 + E2 + E3 + b"\xff\xff\x81\x00", flags=0x40) + INNER,
        "geneve_critical_option",
    ),
    "8 critical option without the flag": (
        header(E1 + E2 + E3 + b"\xff\xff\x81\x00") + INNER,
        "geneve_critical_flag",
    ),
    "11 ethernet": (header(E1 + E2 + E3, ethertype=0x6558) + INNER, "geneve_protocol"),
    "12 v4 announced, v6 inside": (header(E1 + E2 + E3) + INNER6, "inner_version_mismatch"),
    "12 v6 announced, v4 inside": (
        header(E1 + E2 + E3, ethertype=0x86DD) + INNER,
        "inner_version_mismatch",
    ),
    "13 version 5": (header(E1 + E2 + E3) + b"\x55" + INNER[1:], "inner_version"),
    "15 option overruns": (
        header(E1 + E2 + bytes.fromhex("01080302deadbeef")) + INNER,
        "geneve_option_overrun",
    ),
    "18 endpoint of 4 bytes": (
        header(bytes.fromhex("01080101deadbeef") + E2 + E3) + INNER,
        "gwlb_option_length",
    ),
    "18 endpoint of 12 bytes": (
        header(bytes.fromhex("01080103") + bytes(12) + E2 + E3) + INNER,
        "gwlb_option_length",
    ),
    "19 no cookie": (header(E1 + E2) + INNER, "gwlb_option_missing"),
    "23 Tencent": (header(b"\x01\x67" + E1[2:] + UNKNOWN) + INNER, "foreign_options"),
    "23 Google": (header(b"\x01\x32" + E1[2:]) + INNER, "foreign_options"),
    "21 another cookie": (
        header(E1 + E2 + E3 + E3[:4] + b"\0\0\0\x05") + INNER,
        "gwlb_option_repeated",
    ),
    "nothing inside": (header(E1 + E2 + E3), "ip_truncated"),
}

TAKEN = {
    "5 sixty-three words": header(
        E1 + E2 + E3 + b"\xff\xff\x01\x1f" + bytes(124) + b"\xff\xff\x01\x16" + bytes(88)
    )
    + INNER,
    "9 critical flag alone": header(E1 + E2 + E3, flags=0x40) + INNER,
    "10 reserved bits": b"\x08\x3f\x08\x00\0\0\0\xff" + E1 + E2 + E3 + INNER,
    "14 VNI": b"\x08\x00\x08\x00\x00\x00\x7b\x00" + E1 + E2 + E3 + INNER,
    "17 empty option between": header(E1 + b"\xff\xff\x01\x00" + E2 + E3) + INNER,
    "20 other order": header(E3 + E2 + E1) + INNER,
    "21 repeated cookie": header(E1 + E2 + E3 + E3) + INNER,
    "22 a fourth AWS option": header(E1 + E2 + E3 + b"\x01\x08\x04\x01\0\0\0\0") + INNER,
    "24 attachment": header(E1 + E2[:4] + b"\xff" * 8 + E3) + INNER,
    "28 trailing bytes": GOOD + b"junk",
    "ipv6": header(E1 + E2 + E3, ethertype=0x86DD) + INNER6,
}


@pytest.mark.parametrize(("data", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(data: bytes, expected: str) -> None:
    assert reason(data) == expected
    assert reason(data, strict=True) == expected


@pytest.mark.parametrize("data", TAKEN.values(), ids=TAKEN.keys())
def test_taken(data: bytes) -> None:
    assert reason(data) == ""


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("9 critical flag alone", "geneve_critical_flag"),
        ("14 VNI", "geneve_vni"),
        ("21 repeated cookie", "gwlb_option_repeated"),
    ],
)
def test_strict_refuses_what_gwlb_has_never_been_seen_to_send(case: str, expected: str) -> None:
    assert reason(TAKEN[case], strict=True) == expected


def test_a_dangling_word_is_an_overrun() -> None:
    # Case 16: the options end with a word that is too short for another option's data.
    assert reason(header(E1 + E2 + E3 + b"\xff\xff\x01\x02" + bytes(4)) + INNER) == (
        "geneve_option_overrun"
    )


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_taken_or_malformed(data: bytes, strict: bool) -> None:
    assert reason(data, strict=strict) in {"", *MALFORMED}


@given(st.data())
def test_any_mutation_of_a_good_header_is_taken_or_malformed(data: st.DataObject) -> None:
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    assert reason(bytes(raw[:cut])) in {"", *MALFORMED}
    with contextlib.suppress(MalformedPacket):
        parse_options(bytes(raw[:cut]), 0, cut)


options = st.builds(
    Option,
    st.integers(0, 0xFFFF).filter(lambda c: c != 0x0108),
    st.integers(0, 0x7F),
    st.integers(0, 5).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n)),
)


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.lists(options, max_size=8),
)
def test_what_is_built_is_read_back(
    endpoint: int, cookie: int, attachment: int, extra: list[Option]
) -> None:
    built = build_geneve(endpoint, cookie, attachment_id=attachment, extra=extra)
    geneve = parse_geneve(built + INNER, 0, len(built + INNER))
    assert (geneve.endpoint_id, geneve.cookie, geneve.attachment_id) == (
        endpoint,
        cookie,
        attachment,
    )
    assert parse_options(built, 0, len(built))[3:] == extra
    assert geneve_identity(built) == (attachment, cookie)


def test_who_a_header_is_of_is_read_in_any_order_of_its_options() -> None:
    turned = header(E3 + E2 + E1)
    assert len(turned) == 40
    assert geneve_identity(turned) == (0, 0xDEADBEEF)
    assert geneve_identity(header(E1 + E2 + E3)) == (0, 0xDEADBEEF)
    assert geneve_identity(header(E1)) == (0, 0)
    assert geneve_identity(b"") == (0, 0)


@given(st.integers(0, 2**64 - 1))
def test_endpoint_names_go_there_and_back(number: int) -> None:
    assert parse_endpoint(format_endpoint(number)) == number


def test_endpoint_names() -> None:
    assert parse_endpoint("vpce-1a2b3c4d") == 0x1A2B3C4D
    for text in (
        "vpce-",
        "vpce-12",
        "0a1b2c3d4e5f60718",
        "vpce-" + "g" * 17,
        "vpce-" + "f" * 17,
        "vpce-0x1b2c3d",
        "vpce-0_1b2c3d",
        "vpce-+1b2c3d4",
        "vpce-0a1b2c3d4e5f6071_",
        "vpce-0a1b2c3d4e5f6071\uff18",
    ):
        with pytest.raises(ValueError, match="not an endpoint id"):
            parse_endpoint(text)


@given(
    st.sampled_from([(0x0800, INNER), (0x86DD, INNER6)]),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.permutations([0, 1, 2]),
    st.booleans(),
)
def test_the_usual_layout_is_read_in_one_go_just_as_any_other(
    inside: tuple[int, bytes],
    endpoint: int,
    attachment: int,
    cookie: int,
    order: list[int],
    reserved: bool,
) -> None:
    ethertype, packet = inside
    values = (
        E1[:4] + endpoint.to_bytes(8, "big"),
        E2[:4] + attachment.to_bytes(8, "big"),
        E3[:4] + cookie.to_bytes(4, "big"),
    )
    shuffled = header(b"".join(values[n] for n in order), ethertype=ethertype)
    if reserved:
        shuffled = shuffled[:1] + b"\x3f" + shuffled[2:]
    expected = (40, ethertype, 0, endpoint, attachment, cookie)
    for strict in (False, True):
        data = b"\xee" * 5 + shuffled + packet
        assert parse_geneve(data, 5, len(data), strict=strict) == expected
    assert reason(shuffled) == "ip_truncated"  # though the next datagram's bytes may follow
    assert parse_refusal(shuffled + packet, 40) == "ip_truncated"


def parse_refusal(data: bytes, end: int) -> str:
    with pytest.raises(MalformedPacket) as caught:
        parse_geneve(data, 0, end)
    return caught.value.reason


@pytest.mark.parametrize(
    "arguments",
    [
        {"endpoint_id": 1 << 64},
        {"endpoint_id": -1},
        {"attachment_id": 1 << 64},
        {"cookie": 1 << 32},
        {"vni": 1 << 24},
        {"extra": [Option(0xFFFF, 1, b"abc")]},
        {"extra": [Option(0xFFFF, 1, bytes(128))]},
        {"extra": [Option(0xFFFF, 1, bytes(124))] * 2},
    ],
)
def test_what_does_not_fit_into_a_header_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        build_geneve(**{"endpoint_id": 1, "cookie": 2, **arguments})


def test_a_critical_option_is_announced() -> None:
    built = build_geneve(1, 2, extra=[Option(0xFFFF, 0x81, b"")])
    assert parse_refusal(built + INNER, len(built + INNER)) == "geneve_critical_option"
    assert parse_options(built, 0, len(built))[3] == (0xFFFF, 0x81, b"")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x08", "geneve_too_short"),
        (HEADER_ONLY[:39], "geneve_options_length"),
        (header(E1 + b"\xff\xff\x01\x02" + bytes(4)), "geneve_option_overrun"),
    ],
)
def test_listing_options_refuses_what_parsing_refuses(data: bytes, expected: str) -> None:
    with pytest.raises(MalformedPacket) as caught:
        parse_options(data, 0, len(data))
    assert caught.value.reason == expected
