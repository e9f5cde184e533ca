"""What flows carry, by their first bytes and by their ports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_appliances.analytics.application import (
    MOST_BYTES,
    UNKNOWN,
    Application,
    by_port,
    identify,
)

from .conftest import client_hello

OPENINGS = {
    "http": b"POST /x HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": client_hello("a.example"),
    "ssh": b"SSH-2.0-OpenSSH_9.9\r\n",
    "smb": b"\0\0\0\xea\xfeSMB@\0",
    "rdp": b"\x03\0\0\x2b\x26\xe0\0\0\0\0\0",
    "bittorrent": b"\x13BitTorrent protocol\0\0\0\0",
}


@pytest.mark.parametrize("name", OPENINGS)
def test_openings_of_clients(name: str) -> None:
    host = "a.example" if name in ("http", "tls") else ""
    assert identify(OPENINGS[name], to_server=True) == Application(name, host)


@pytest.mark.parametrize("name", OPENINGS)
def test_the_beginning_of_an_opening_is_never_taken_for_another(name: str) -> None:
    for end in range(len(OPENINGS[name])):
        found = identify(OPENINGS[name][:end], to_server=True)
        assert found is None or found.name == name


@pytest.mark.parametrize(
    ("greeting", "name"),
    [
        (b"SSH-2.0-x\r\n", "ssh"),
        (b"* OK [CAPABILITY]", "imap"),
        (b"+OK ready", "pop3"),
        (b"HTTP/1.1 200 OK\r\n", "http"),
    ],
)
def test_greetings_of_servers(greeting: bytes, name: str) -> None:
    assert identify(greeting, to_server=False) == Application(name)


def test_without_its_end_a_request_has_no_host() -> None:
    assert identify(b"GET / HTTP/1.1\r\n", to_server=True) is None
    assert identify(b"GET / HTTP/1.1\r\n", to_server=True, final=True) == Application("http")
    long = b"GET /" + b"a" * MOST_BYTES
    assert identify(long, to_server=True) == Application("http")


def test_what_matches_nothing_is_nothing() -> None:
    assert identify(b"EHLO x", to_server=True) is None
    assert identify(b"EHLO x", to_server=True, final=True) == Application("")
    assert identify(b"EHLO a.long.name.example\r\n", to_server=True) == Application("")


@given(st.binary(max_size=100), st.booleans())
def test_any_bytes_have_an_answer_in_the_end(head: bytes, to_server: bool) -> None:
    found = identify(head, to_server=to_server, final=True)
    assert found is not None
    assert found.name in ("", "imap", "pop3", *OPENINGS)


@pytest.mark.parametrize(
    ("protocol", "port", "name"),
    [
        ("tcp", 443, "tls"),
        ("udp", 443, "quic"),
        ("udp", 53, "dns"),
        ("tcp", 49999, UNKNOWN),
        ("icmpv6", 0, "icmpv6"),
        ("47", 0, UNKNOWN),
    ],
)
def test_names_of_ports(protocol: str, port: int, name: str) -> None:
    assert by_port(protocol, port) == name
