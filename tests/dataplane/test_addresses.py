"""Which sockets are opened, and what a user is told when they cannot be."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import pytest

from appliance_sdk.dataplane import addresses
from appliance_sdk.dataplane.addresses import local_addresses, open_groups, open_listeners
from appliance_sdk.dataplane.selector import selector
from appliance_sdk.errors import ConfigError


def _close(listeners: list[socket.socket]) -> None:
    for listener in listeners:
        listener.close()


def test_the_machine_has_its_loopback_address_once() -> None:
    found = local_addresses()
    assert found.count("127.0.0.1") == 1
    assert "0.0.0.0" not in found


def test_the_wildcard_is_every_address_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "local_addresses", lambda: ["127.0.0.1", "127.0.0.9"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listeners = open_listeners(["127.0.0.1", "0.0.0.0"], port)
    bound = [listener.getsockname() for listener in listeners]
    _close(listeners)
    assert bound == [("127.0.0.1", port), ("127.0.0.9", port)]


def test_an_address_of_the_wildcard_that_has_gone_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "local_addresses", lambda: ["192.0.2.1", "127.0.0.1"])
    listeners = open_listeners(["0.0.0.0"], 0)
    bound = [listener.getsockname()[0] for listener in listeners]
    _close(listeners)
    assert bound == ["127.0.0.1"]


def test_a_second_start_is_refused_and_told_how_to_look(own_address: Callable[[], str]) -> None:
    address = own_address()
    first = open_listeners([address], 6081)
    with pytest.raises(ConfigError) as caught:
        open_listeners([address], 6081)
    _close(first)
    assert str(caught.value) == (
        f"listen.addresses: another process has UDP {address}:6081 (try: ss -lunp 'sport = :6081')"
    )


def test_a_failure_leaves_nothing_open(own_address: Callable[[], str]) -> None:
    good, taken = own_address(), own_address()
    first = open_listeners([taken], 6081)
    with pytest.raises(ConfigError):
        open_listeners([good, taken], 6081)
    _close(first)
    _close(open_listeners([good, taken], 6081))


def test_workers_share_an_address_when_told(own_address: Callable[[], str]) -> None:
    address = own_address()
    program = selector(2, 1)
    groups = open_groups([address], 6081, 2, program)
    assert [len(listeners) for listeners in groups] == [1, 1]
    with pytest.raises(ConfigError, match="another process has"):
        open_listeners([address], 6081)
    with pytest.raises(ConfigError, match="another process has"):
        open_groups([address], 6081, 2, program)
    for listeners in groups:
        _close(listeners)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("192.0.2.7", "192.0.2.7 is not an address of this machine"),
        ("localhost", "'localhost' is not an IP address"),
        ("::1", "::1 is not an IPv4 address (GWLB reaches its targets over IPv4"),
    ],
)
def test_addresses_that_cannot_be(given: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_listeners([given])
    assert message in str(caught.value)
    assert caught.value.key == "listen.addresses"


def test_no_address_at_all() -> None:
    with pytest.raises(ConfigError, match="no address to listen on"):
        open_listeners([])


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "not allowed to bind UDP 127.0.0.1:53 (ports below 1024"),
        (errno.EIO, "cannot listen on UDP 127.0.0.1:53: Input/output error"),
    ],
)
def test_other_refusals(monkeypatch: pytest.MonkeyPatch, number: int, said: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, {errno.EIO: "Input/output error"}.get(number, ""))

    monkeypatch.setattr(addresses, "_listener", refuse)
    with pytest.raises(ConfigError) as caught:
        open_listeners(["127.0.0.1"], 53)
    assert said in str(caught.value)


def test_a_listener_never_sends_fragments(own_address: Callable[[], str]) -> None:
    (listener,) = open_listeners([own_address()], 0)
    mode = listener.getsockopt(socket.IPPROTO_IP, addresses.IP_MTU_DISCOVER)
    listener.close()
    assert mode == addresses.IP_PMTUDISC_PROBE


def test_the_receive_buffer_is_as_large_as_the_system_lets_it(
    own_address: Callable[[], str],
) -> None:
    small = open_listeners([own_address()], 0, receive_buffer_bytes=65536)[0]
    large = open_listeners([own_address()], 0, receive_buffer_bytes=1 << 20)[0]
    sizes = [s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for s in (small, large)]
    _close([small, large])
    assert sizes[0] < sizes[1]
