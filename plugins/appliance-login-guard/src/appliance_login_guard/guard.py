"""Counts the refused logins of a connection and ends it at the limit."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from appliance_sdk import Chunk, Flow, FlowHandler, Opening, Outcome, Plugin, PluginConfig, Verdict

LONGEST_PATTERN = 63
"""Bytes: with the line end before it a pattern fits into the look-back."""


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One protocol to watch."""

    ports: tuple[int, ...]
    """TCP ports of its servers."""
    failed: tuple[str, ...]
    """How a line of the server begins that refuses a login."""

    def __post_init__(self) -> None:
        for pattern in self.failed:
            if not 0 < len(pattern.encode()) <= LONGEST_PATTERN or "\n" in pattern:
                raise ValueError(f"`failed` needs 1 to {LONGEST_PATTERN} bytes of one line")


BUILT_IN = {
    "ftp": Service(ports=(21,), failed=("530 ",)),
    "smtp": Service(ports=(25, 587), failed=("535 ",)),
    "pop3": Service(ports=(110,), failed=("-ERR [AUTH]", "-ERR Authentication", "-ERR Invalid")),
}


class LoginGuardConfig(PluginConfig, frozen=True):
    """The `[plugins.login-guard]` table."""

    failures: int = 3
    """The failed login that ends the connection; people mistype twice."""
    verdict: Literal["block", "reject"] = "block"
    """Silently, so that a guesser waits for his timeout; or with a RST to both ends."""
    services: dict[str, Service] = msgspec.field(default_factory=lambda: dict(BUILT_IN))

    def __post_init__(self) -> None:
        if self.failures < 1:
            raise ValueError("`failures` must be at least 1")


class LoginGuard(Plugin):
    """Watches the ports of the configured services, forwards the rest at once."""

    config: LoginGuardConfig

    def start(self) -> None:
        """Index the services by port."""
        self.patterns: dict[int, tuple[bytes, ...]] = {
            port: tuple(b"\n" + pattern.encode() for pattern in service.failed)
            for service in self.config.services.values()
            for port in service.ports
        }

    def flow_opened(self, flow: Flow) -> Opening:
        """Watch flows to a port in the list."""
        if flow.protocol == "tcp" and flow.server_port in self.patterns:
            return LoginWatch()
        return Verdict.DONE


class LoginWatch(FlowHandler["LoginGuard"]):
    """The failed logins of one connection so far.

    Every such protocol begins with a greeting line of the server, so a refusal always comes after
    a line end: with it, a number in the middle of a line counts for nothing.
    """

    lookback: ClassVar[int] = LONGEST_PATTERN + 1
    failures: int = 0

    def data(self, chunk: Chunk) -> Outcome:
        """Count in what the server says."""
        if chunk.to_server:
            return None
        guard, flow = self.plugin, self.flow
        found = sum(chunk.count(p) for p in guard.patterns.get(flow.server_port, ()))
        if not found:
            return None
        self.failures += found
        guard.count("failed", found)
        if self.failures < guard.config.failures:
            return None
        guard.count("ended")
        reason = f"{self.failures} failed logins"
        flow.alert(reason, rule="failed-logins", failures=self.failures)
        return Verdict.of(guard.config.verdict).because(reason, rule="failed-logins")
