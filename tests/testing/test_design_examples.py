"""The first plugins a vendor reads about, exactly as they are typed in the documentation."""

from __future__ import annotations

from appliance_sdk import (
    Appliance,
    Chunk,
    Flow,
    FlowHandler,
    Opening,
    Outcome,
    Plugin,
    Verdict,
)
from appliance_sdk.testing import Bench


class NoTelnet(Appliance):
    """Rejects telnet, forwards the rest."""

    def flow_opened(self, flow: Flow) -> Outcome:
        if flow.server_port == 23:
            return Verdict.REJECT.because("telnet is not allowed", rule="no-telnet")
        return Verdict.DONE


class LoginGuard(FlowHandler["FtpGuard"]):
    """Blocks a flow after three failed logins."""

    lookback = 64
    failures: int = 0

    def data(self, chunk: Chunk) -> Outcome:
        if chunk.to_client:
            self.failures += chunk.count(b"530 Login incorrect")
            if self.failures >= 3:
                return Verdict.BLOCK.because("three failed logins")
        return None


class FtpGuard(Plugin):
    def flow_opened(self, flow: Flow) -> Opening:
        return LoginGuard() if flow.server_port == 21 else Verdict.DONE


def test_telnet_is_rejected_and_told() -> None:
    bench = Bench(NoTelnet)
    telnet = bench.tcp("10.0.0.1", "10.0.0.2", 23)
    assert telnet.verdict == Verdict.REJECT
    assert (telnet.verdict.reason, telnet.verdict.rule) == ("telnet is not allowed", "no-telnet")
    assert telnet.client_reset
    assert not telnet.server_reset
    assert not telnet.client_sends(b"hello")
    web = bench.tcp("10.0.0.1", "10.0.0.2", 80)
    assert web.client_sends(b"GET / HTTP/1.1\r\n\r\n")
    assert web.server_received == b"GET / HTTP/1.1\r\n\r\n"


def test_third_failure_blocks() -> None:
    ftp = Bench(FtpGuard, segment=1).tcp("10.0.0.1", "10.0.0.2", 21)
    for _ in range(3):
        ftp.server_sends(b"530 Login incorrect\r\n")
    assert ftp.verdict == Verdict.BLOCK
    assert not ftp.client_sends(b"USER x\r\n")


def test_two_failures_do_not_block() -> None:
    ftp = Bench(FtpGuard, segment=1).tcp("10.0.0.1", "10.0.0.2", 21)
    for _ in range(2):
        ftp.server_sends(b"530 Login incorrect\r\n")
    assert ftp.client_sends(b"USER x\r\n")
    assert ftp.client_received == 2 * b"530 Login incorrect\r\n"


def test_failures_are_counted_over_a_restart() -> None:
    bench = Bench(FtpGuard)
    ftp = bench.tcp("10.0.0.1", "10.0.0.2", 21)
    ftp.server_sends(b"530 Login incorrect\r\n530 Login incorrect\r\n")
    bench.restart()
    assert ftp.client_sends(b"USER x\r\n")
    assert not ftp.server_sends(b"530 Login incorrect\r\n")
    assert ftp.verdict == Verdict.BLOCK
