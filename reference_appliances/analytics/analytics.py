"""The plugin: passes everything, and reports what it was."""

from __future__ import annotations

from typing import Any

from appliance_sdk import Flow, FlowHandler, Opening, Plugin, PluginConfig, Policy, Verdict
from reference_appliances.analytics.application import by_port
from reference_appliances.analytics.events import FlowRecord, Talker, TopTalkers
from reference_appliances.analytics.line import flow_line
from reference_appliances.analytics.probe import Probe
from reference_appliances.analytics.rankings import DEFAULT, Ranking, parse_fields

_LOGGED = 3
"""Places of each ranking that the log names; the event has all."""


class AnalyticsConfig(PluginConfig, frozen=True, kw_only=True):
    """The `[plugins.analytics]` table."""

    on_error: Policy = "continue"
    """Only "continue": what counts traffic must not stop it."""
    inspect: bool = True
    """Read the first bytes of TCP connections; else every flow is named by its server's port."""
    rankings: tuple[str, ...] = DEFAULT
    """What the top talkers are told apart by: fields of the records, separated by commas."""
    period_s: float = 300
    """How often top talkers are reported; 0: never."""
    places: int = 10
    """How many of each ranking are reported."""
    remembered: int = 4096
    """Keys that a ranking remembers, some 500 bytes each; what it says is wrong by at most a
    4,096th of all bytes, if more keys come."""

    def __post_init__(self) -> None:
        for name in ("on_error", "midstream", "gap"):
            if getattr(self, name) != "continue":
                raise ValueError(f"`{name}` can only be `continue`: analytics stops nothing")
        for text in self.rankings:
            parse_fields(text)
        if self.period_s < 0:
            raise ValueError("`period_s` must not be less than 0")
        if not 1 <= self.places <= self.remembered:
            raise ValueError("`places` must be 1 to `remembered`")


class Analytics(Plugin):
    """Writes a record for each flow, and who has most; stops nothing."""

    config: AnalyticsConfig

    _rankings: list[Ranking]
    _since: float

    def start(self) -> None:
        """Begin the first period."""
        self._begin()

    def flow_opened(self, flow: Flow) -> Opening:
        """Look into a TCP connection that begins here; the rest is known by its port."""
        if flow.tcp is None or flow.midstream or not self.config.inspect:
            return Verdict.DONE
        return Probe()

    def flow_closed(self, flow: Flow, handler: FlowHandler[Any] | None) -> None:
        """Report the flow, and count it in the period in which it ends."""
        application = host = ""
        if isinstance(handler, Probe):
            handler.conclude()
            application, host = handler.application, handler.host
        record = FlowRecord(
            duration_s=flow.stats_at - flow.opened_at,
            silent_s=self.now - flow.stats_at,
            to_server_packets=flow.to_server.packets,
            to_server_bytes=flow.to_server.bytes,
            to_client_packets=flow.to_client.packets,
            to_client_bytes=flow.to_client.bytes,
            direction_sure=flow.direction_sure,
            midstream=flow.midstream,
            end_reason=flow.end_reason,
            verdict=flow.verdict.name if flow.verdict.terminal else "forward",
            application=application or by_port(flow.protocol, flow.server_port),
            host=host,
        )
        self.emit(record, flow)
        if self._rankings:
            line = flow_line(record)
            for ranking in self._rankings:
                ranking.add(line)

    def woken(self) -> None:
        """A period is over."""
        self._report()
        self._begin()

    def stop(self) -> None:
        """The last period ends early."""
        self._report()

    def _begin(self) -> None:
        config = self.config
        rankings = config.rankings if config.period_s else ()
        self._rankings = [Ranking(fields, config.remembered) for fields in rankings]
        self._since = self.now
        if rankings:
            self.wake(config.period_s)

    def _report(self) -> None:
        for ranking in self._rankings:
            summary = ranking.summary
            if not summary:
                continue
            talkers = [
                Talker(list(top.key), top.weight, top.over, top.times)
                for top in summary.top(self.config.places)
            ]
            self.emit(
                TopTalkers(
                    zone=self.zone,
                    fields=ranking.fields,
                    period_s=self.now - self._since,
                    total_bytes=summary.total,
                    bound_bytes=summary.bound,
                    talkers=talkers,
                )
            )
            self.log(
                "top talkers",
                by=",".join(ranking.fields),
                bytes={",".join(talker.key): talker.bytes for talker in talkers[:_LOGGED]},
                total_bytes=summary.total,
                bound_bytes=summary.bound,
            )
