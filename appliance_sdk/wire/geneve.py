"""GENEVE (RFC 8926) with the options of AWS Gateway Load Balancer."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from appliance_sdk.errors import MalformedPacket
from appliance_sdk.wire.buffer import Buffer

PORT = 6081
"""The UDP port of GENEVE, the only one of a GENEVE target group."""
AWS_OPTION_CLASS = 0x0108
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD

ENDPOINT_OPTION = 1
"""u64: the GWLB endpoint's id."""
ATTACHMENT_OPTION = 2
"""u64: the customer-visible attachment id."""
COOKIE_OPTION = 3
"""u32: the flow cookie, new for each flow."""

_BASE = struct.Struct(">BBHI")
_OPTION = struct.Struct(">HBB")
_USUAL = struct.Struct(">HHIIQIQII")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_CONTROL, _CRITICAL = 0x80, 0x40
_FOREIGN_CLASSES = (0x0132, 0x0167)  # Google Cloud NSI, Tencent Cloud GWLB
_VERSIONS = {ETHERTYPE_IPV4: 4, ETHERTYPE_IPV6: 6}
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_LENGTHS = {ENDPOINT_OPTION: 8, ATTACHMENT_OPTION: 8, COOKIE_OPTION: 4}


# The base header's first two bytes and the headers of the three options.
_USUAL_WORDS = (0x0800, 0x01080102, 0x01080202, 0x01080301)


class Geneve(NamedTuple):
    """A GENEVE header as GWLB sends it; `length` is in bytes, 8 to 260."""

    length: int
    ethertype: int
    vni: int
    endpoint_id: int
    attachment_id: int
    cookie: int


class Option(NamedTuple):
    """One GENEVE option; the top bit of `type` makes it critical, `data` is 0 to 124 bytes."""

    option_class: int
    type: int
    data: bytes


def parse_geneve(buffer: Buffer, start: int, end: int, *, strict: bool = False) -> Geneve:
    """Read the header at `start` and check what it carries. Raises MalformedPacket.

    Lenient reading takes what RFC 8926 allows: any VNI and attachment, options in any order, others
    among them, a GWLB option twice if it says the same. Strict reading refuses a VNI, a repeated
    GWLB option and a critical flag without a critical option, none of which GWLB sends.
    """
    size = end - start
    if size < 8:
        raise MalformedPacket("geneve_too_short")
    if size > 40:
        # What GWLB sends today, at a third of the cost. It promises no layout, so that anything
        # else is read option by option.
        base, ethertype, vni_word, one, endpoint_id, two, attachment_id, three, cookie = (
            _USUAL.unpack_from(buffer, start)
        )
        if (
            (base, one, two, three) == _USUAL_WORDS
            and not vni_word
            and _VERSIONS.get(ethertype) == buffer[start + 40] >> 4
        ):
            return tuple.__new__(Geneve, (40, ethertype, 0, endpoint_id, attachment_id, cookie))
    first, flags, ethertype, vni_word = _BASE.unpack_from(buffer, start)
    if first >> 6:
        raise MalformedPacket("geneve_version")
    length = 8 + 4 * (first & 0x3F)
    if length > size:
        raise MalformedPacket("geneve_options_length")
    if flags & _CONTROL:
        raise MalformedPacket("geneve_control")
    if ethertype not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
        raise MalformedPacket("geneve_protocol")
    if strict and vni_word >> 8:
        raise MalformedPacket("geneve_vni")
    found = _gwlb_options(buffer, start + 8, start + length, bool(flags & _CRITICAL), strict)
    if length == size:
        raise MalformedPacket("ip_truncated")
    version = buffer[start + length] >> 4
    if version not in (4, 6):
        raise MalformedPacket("inner_version")
    if (version == 6) is not (ethertype == ETHERTYPE_IPV6):
        raise MalformedPacket("inner_version_mismatch")
    return Geneve(length, ethertype, vni_word >> 8, found[0], found[1], found[2])


def _gwlb_options(
    buffer: Buffer, at: int, end: int, critical_flag: bool, strict: bool
) -> tuple[int, int, int]:
    values: dict[int, int] = {}
    critical = foreign = False
    while at < end:
        if end - at < 4:
            raise MalformedPacket("geneve_option_overrun")
        option_class, kind, word = _OPTION.unpack_from(buffer, at)
        length = 4 * (word & 0x1F)
        at += 4
        if length > end - at:
            raise MalformedPacket("geneve_option_overrun")
        if kind & 0x80:
            if not critical_flag:
                raise MalformedPacket("geneve_critical_flag")
            critical = True
        if option_class == AWS_OPTION_CLASS and kind in _LENGTHS:
            if length != _LENGTHS[kind]:
                raise MalformedPacket("gwlb_option_length")
            value = (_U64 if length == 8 else _U32).unpack_from(buffer, at)[0]
            if kind in values and (strict or values[kind] != value):
                raise MalformedPacket("gwlb_option_repeated")
            values[kind] = value
        foreign |= option_class in _FOREIGN_CLASSES
        at += length
    if critical:
        raise MalformedPacket("geneve_critical_option")
    if critical_flag and strict:
        raise MalformedPacket("geneve_critical_flag")
    if len(values) < len(_LENGTHS):
        raise MalformedPacket("foreign_options" if foreign else "gwlb_option_missing")
    return values[ENDPOINT_OPTION], values[ATTACHMENT_OPTION], values[COOKIE_OPTION]


def parse_options(buffer: Buffer, start: int, end: int) -> list[Option]:
    """Every option of the header at `start`, in order. Raises MalformedPacket."""
    if end - start < 8:
        raise MalformedPacket("geneve_too_short")
    stop = start + 8 + 4 * (buffer[start] & 0x3F)
    if stop > end:
        raise MalformedPacket("geneve_options_length")
    options = []
    at = start + 8
    while at < stop:
        if stop - at < 4:
            raise MalformedPacket("geneve_option_overrun")
        option_class, kind, word = _OPTION.unpack_from(buffer, at)
        length = 4 * (word & 0x1F)
        if at + 4 + length > stop:
            raise MalformedPacket("geneve_option_overrun")
        options.append(Option(option_class, kind, bytes(buffer[at + 4 : at + 4 + length])))
        at += 4 + length
    return options


def geneve_identity(header: bytes) -> tuple[int, int]:
    """Attachment id and cookie of a header that was parsed before, 0 where it has none."""
    if len(header) == 40:
        base, _ethertype, _vni, one, _endpoint, two, attachment_id, three, cookie = _USUAL.unpack(
            header
        )
        if (base, one, two, three) == _USUAL_WORDS:
            return attachment_id, cookie
    found = {
        option.type: int.from_bytes(option.data, "big")
        for option in (parse_options(header, 0, len(header)) if header else ())
        if option.option_class == AWS_OPTION_CLASS
    }
    return found.get(ATTACHMENT_OPTION, 0), found.get(COOKIE_OPTION, 0)


def build_geneve(
    endpoint_id: int,
    cookie: int,
    *,
    attachment_id: int = 0,
    ethertype: int = ETHERTYPE_IPV4,
    vni: int = 0,
    extra: Sequence[Option] = (),
) -> bytes:
    """A header as GWLB sends it, 40 bytes, and `extra` options behind. Raises ValueError."""
    if not (0 <= endpoint_id < 1 << 64 and 0 <= attachment_id < 1 << 64):
        raise ValueError("endpoint and attachment ids have 64 bits")
    if not (0 <= cookie < 1 << 32 and 0 <= vni < 1 << 24):
        raise ValueError("a cookie has 32 bits, a VNI 24")
    if not extra:
        base, one, two, three = _USUAL_WORDS
        return _USUAL.pack(
            base, ethertype, vni << 8, one, endpoint_id, two, attachment_id, three, cookie
        )
    options = b"".join(
        _build_option(option)
        for option in (
            Option(AWS_OPTION_CLASS, ENDPOINT_OPTION, _U64.pack(endpoint_id)),
            Option(AWS_OPTION_CLASS, ATTACHMENT_OPTION, _U64.pack(attachment_id)),
            Option(AWS_OPTION_CLASS, COOKIE_OPTION, _U32.pack(cookie)),
            *extra,
        )
    )
    if len(options) > 252:
        raise ValueError(f"{len(options)} bytes of options; GENEVE has room for 252")
    flags = _CRITICAL if any(option.type & 0x80 for option in extra) else 0
    return _BASE.pack(len(options) // 4, flags, ethertype, vni << 8) + options


def _build_option(option: Option) -> bytes:
    if len(option.data) % 4 or len(option.data) > 124:
        raise ValueError("option data is a multiple of 4 bytes, at most 124")
    return _OPTION.pack(option.option_class, option.type, len(option.data) // 4) + option.data


def format_endpoint(endpoint_id: int) -> str:
    """The endpoint's name: "vpce-" and 17 hex digits."""
    return f"vpce-{endpoint_id:017x}"


def parse_endpoint(text: str) -> int:
    """The id in an endpoint's name, of 17 or (before 2018) 8 hex digits. Raises ValueError."""
    digits = text.removeprefix("vpce-")
    # int() alone would take "0x", "_", blanks and other scripts' digits.
    if digits != text and len(digits) in (8, 17) and _HEX_DIGITS.issuperset(digits):
        number = int(digits, 16)
        if number < 1 << 64:
            return number
    raise ValueError(f"`{text}` is not an endpoint id: vpce- and 17 hex digits")
