"""Host names in the first bytes that a client sends: the HTTP Host, the TLS server name."""

from __future__ import annotations

import re
from collections.abc import Iterator

_HEADER = re.compile(rb"\r?\nhost:([^\r\n]*)\r?\n", re.I)
_END = re.compile(rb"\n\r?\n")
_NAME = re.compile(r"[0-9a-z_][0-9a-z._-]{0,252}|\[[0-9a-f:.]{2,45}\]")
"""A DNS name, an IPv4 address or an IPv6 address in brackets: nothing else goes into a record."""

_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME = 22, 1, 0


def http_host(head: bytes) -> str | None:
    """The Host of an HTTP/1 request (RFC 9110, 7.2), without its port; None: not here yet."""
    end = _END.search(head)
    found = _HEADER.search(head, 0, end.start() + 2 if end else len(head))
    if found is None:
        return "" if end else None
    return _clean(re.sub(r":\d*$", "", found[1].decode("latin-1").strip()))


def tls_server_name(head: bytes) -> str | None:
    """The server name of a TLS ClientHello (RFC 6066, 3), "" if it has none; None: incomplete."""
    hello = _handshake(head)
    if len(hello) < 4 or len(hello) < 4 + int.from_bytes(hello[1:4], "big"):
        return None
    if hello[0] != _CLIENT_HELLO:
        return ""
    hello = hello[4 : 4 + int.from_bytes(hello[1:4], "big")]
    at = 34  # version and random: RFC 8446, 4.1.2
    for width in (1, 2, 1):  # session id, cipher suites, compression methods
        at += width + int.from_bytes(hello[at : at + width], "big")
    for kind, body in _extensions(hello[at + 2 :]):
        if kind == _SERVER_NAME:
            length = int.from_bytes(body[3:5], "big")
            is_host = body[2:3] == b"\0" and 5 + length <= len(body)
            return _clean(body[5 : 5 + length].decode("latin-1")) if is_host else ""
    return ""


def _handshake(head: bytes) -> bytes:
    """The handshake bytes of the records at the beginning, which may cut the hello anywhere."""
    found = b""
    at = 0
    while at + 5 <= len(head) and head[at] == _HANDSHAKE:
        length = int.from_bytes(head[at + 3 : at + 5], "big")
        found += head[at + 5 : at + 5 + length]
        at += 5 + length
    return found


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield int.from_bytes(data[at : at + 2], "big"), data[at + 4 : at + 4 + length]
        at += 4 + length


def _clean(name: str) -> str:
    """A name as it is compared; "" if it is not one."""
    name = name.lower().removesuffix(".")
    return name if _NAME.fullmatch(name) else ""
