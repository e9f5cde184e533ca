"""The login guard on a bench: real segments, the real engine."""

from __future__ import annotations

import pytest
from appliance_login_guard import LoginGuard, LoginGuardConfig

from appliance_sdk import ConfigError, Verdict, decode_config
from appliance_sdk.testing import Bench

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
GREETING = {21: b"220 ready\r\n", 25: b"220 mx ESMTP\r\n", 110: b"+OK ready\r\n"}
REFUSAL = {
    21: b"530 Login incorrect.\r\n",
    25: b"535 5.7.8 Authentication failed\r\n",
    110: b"-ERR [AUTH] no such mailbox\r\n",
}


@pytest.mark.parametrize("segment", [0, 1, 3])
@pytest.mark.parametrize("port", [21, 25, 110])
def test_the_third_refusal_blocks(port: int, segment: int) -> None:
    bench = Bench(LoginGuard, segment=segment)
    peers = bench.tcp(CLIENT, SERVER, port)
    assert peers.server_sends(GREETING[port])
    for _ in range(2):
        assert peers.client_sends(b"let me in\r\n")
        assert peers.server_sends(REFUSAL[port])
    assert not peers.verdict.terminal
    assert not peers.server_sends(REFUSAL[port])
    assert peers.verdict == Verdict.BLOCK
    assert (peers.verdict.reason, peers.verdict.rule) == ("3 failed logins", "failed-logins")
    assert not peers.client_sends(b"once more\r\n")
    assert [a.rule for a in bench.alerts] == ["failed-logins"]
    assert bench.engine.metrics["login-guard.failed"] == 3
    assert bench.engine.metrics["login-guard.ended"] == 1


def test_refusals_in_one_segment_count_one_by_one() -> None:
    peers = Bench(LoginGuard).tcp(CLIENT, SERVER, 21)
    peers.server_sends(GREETING[21])
    assert not peers.server_sends(REFUSAL[21] * 3)
    assert peers.verdict == Verdict.BLOCK


def test_only_lines_of_the_server_count() -> None:
    peers = Bench(LoginGuard).tcp(CLIENT, SERVER, 21)
    peers.server_sends(GREETING[21])
    for _ in range(5):
        assert peers.client_sends(b"\n530 Login incorrect\r\n")
        assert peers.server_sends(b"250 we sold 530 today\r\n")
    assert not peers.verdict.terminal


def test_connections_count_for_themselves() -> None:
    bench = Bench(LoginGuard)
    for _ in range(4):
        peers = bench.tcp(CLIENT, SERVER, 21)
        peers.server_sends(GREETING[21])
        assert peers.server_sends(REFUSAL[21] * 2)
    assert bench.alerts == []


def test_other_ports_are_not_looked_at() -> None:
    peers = Bench(LoginGuard).tcp(CLIENT, SERVER, 8021)
    assert peers.server_sends(GREETING[21] + REFUSAL[21] * 5)
    assert peers.flow is not None
    assert peers.flow._inspection.on_data == ()


def test_reject_resets_both_ends() -> None:
    peers = Bench(LoginGuard, failures=1, verdict="reject").tcp(CLIENT, SERVER, 21)
    peers.server_sends(GREETING[21])
    assert not peers.server_sends(REFUSAL[21])
    assert peers.verdict == Verdict.REJECT
    assert peers.client_reset
    assert peers.server_reset


def test_services_of_ones_own() -> None:
    services = {"chat": {"ports": [7000], "failed": ["DENIED"]}}
    bench = Bench(LoginGuard, services=services, failures=1)
    chat, ftp = bench.tcp(CLIENT, SERVER, 7000), bench.tcp(CLIENT, SERVER, 21)
    assert not chat.server_sends(b"HELLO\nDENIED you\n")
    assert ftp.server_sends(GREETING[21] + REFUSAL[21] * 9)


def test_the_count_survives_a_restart() -> None:
    bench = Bench(LoginGuard)
    peers = bench.tcp(CLIENT, SERVER, 21)
    peers.server_sends(GREETING[21] + REFUSAL[21] * 2)
    bench.restart()
    assert not peers.server_sends(b"\r\n" + REFUSAL[21])
    assert peers.verdict == Verdict.BLOCK


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"failures": 0}, "at least 1"),
        ({"failure": 5}, "did you mean `failures`"),
        ({"verdict": "drop"}, "verdict"),
        ({"services": {"a": {"ports": [1], "failed": ["x" * 64]}}}, "1 to 63 bytes"),
        ({"services": {"a": {"ports": [1], "failed": [""]}}}, "1 to 63 bytes"),
        ({"services": {"a": {"port": [1], "failed": ["x"]}}}, "did you mean `ports`"),
    ],
)
def test_mistakes_in_the_configuration_are_explained(
    config: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        decode_config(config, LoginGuardConfig)
