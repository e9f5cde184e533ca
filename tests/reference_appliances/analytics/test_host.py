"""Names of hosts out of bytes that anyone may have sent."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_appliances.analytics.application import MOST_BYTES
from reference_appliances.analytics.host import http_host, tls_server_name

from .conftest import client_hello

HELLO = client_hello("Shop.Example.com")
REQUEST = b"GET / HTTP/1.1\r\nAccept: */*\r\nHOST: \tShop.Example:8080 \r\nX: y\r\n\r\n"


def test_the_name_in_a_hello_of_openssl() -> None:
    assert tls_server_name(HELLO) == "shop.example.com"
    assert tls_server_name(client_hello(None)) == ""


@pytest.mark.parametrize("end", [5, 9, 40, 200, -1])
def test_a_hello_that_is_not_complete(end: int) -> None:
    assert tls_server_name(HELLO[:end]) is None


@pytest.mark.parametrize("size", [1, 3, 50])
def test_a_hello_cut_into_records(size: int) -> None:
    body = HELLO[5:]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    records = b"".join(HELLO[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)
    assert tls_server_name(records) == "shop.example.com"


def test_the_host_of_a_request() -> None:
    assert http_host(REQUEST) == "shop.example"
    assert http_host(b"GET / HTTP/1.1\nHost: [2001:db8::1]:80\n\n") == "[2001:db8::1]"
    assert http_host(b"GET / HTTP/1.0\r\n\r\n") == ""
    assert http_host(REQUEST[: REQUEST.index(b"Shop")]) is None


def test_a_host_in_the_body_is_none() -> None:
    assert http_host(b"POST / HTTP/1.0\r\nA: b\r\n\r\n\r\nHost: x\r\n") == ""


@pytest.mark.parametrize(
    "name", ["a\x1b[2J", "a b", "", "x" * 300, "ä.example", '"', "a,b", "[::1", "-a"]
)
def test_what_is_no_name_stays_out_of_records(name: str) -> None:
    assert http_host(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()) == ""


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda b: HELLO[:43] + b + HELLO[60:]))
def test_any_bytes_are_a_name_none_or_not_yet(data: bytes) -> None:
    for found in (tls_server_name(data), http_host(data)):
        assert found is None or re.fullmatch(r"[0-9a-z._:\[\]-]{0,253}", found)


@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255))
def test_a_hello_with_one_wrong_byte(at: int, byte: int) -> None:
    tls_server_name(HELLO[:at] + bytes([byte]) + HELLO[at + 1 :])


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost:" + b" " * MOST_BYTES,
        b"GET / HTTP/1.1" + b"\r\nHost:" * 600,
        b"\x16\x03\x01\0\1\1" * 700,
        b"\x16\x03\x01\0\0" * 800,
    ],
)
def test_hostile_bytes_cost_little(head: bytes) -> None:
    began = time.process_time()
    http_host(head[:MOST_BYTES])
    tls_server_name(head[:MOST_BYTES])
    assert time.process_time() - began < 0.05
