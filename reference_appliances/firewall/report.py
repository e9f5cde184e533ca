"""What a replay decided, as text: the flows with verdict, rule and reason, then the rules' hits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from appliance_sdk import Event, FlowEnded, FlowInfo
from reference_appliances.firewall.events import FirewallVerdict
from reference_appliances.firewall.ruleset import DEFAULT, LIMIT, MIDSTREAM, RELATED, Ruleset

Style = Callable[[str, str], str]
"""Colours a text by the verdict it is about."""


class Row(NamedTuple):
    """One line of the flow table."""

    flow: str
    verdict: str
    rule: str
    reason: str
    packets: str
    """To the server / to the client, those that were dropped included."""


def flow_rows(events: Iterable[Event]) -> list[Row]:
    """A row for each verdict on each flow, in the order in which the flows began."""
    flows: dict[int, FlowInfo] = {}
    packets: dict[int, str] = {}
    verdicts: dict[int, dict[tuple[str, str, str, bool], FirewallVerdict]] = {}
    for event in events:
        if event.flow is None:
            continue
        flows.setdefault(event.flow.id, event.flow)
        if isinstance(event, FirewallVerdict):
            key = (event.action, event.rule, event.reason, event.to_server)
            verdicts.setdefault(event.flow.id, {}).setdefault(key, event)
        elif isinstance(event, FlowEnded):
            packets[event.flow.id] = f"{event.packets_to_server}/{event.packets_to_client}"
    rows = []
    for id_, found in sorted(verdicts.items()):
        for index, event in enumerate(found.values()):
            rows.append(
                Row(
                    _flow(flows[id_], event.to_server),
                    event.action,
                    event.rule,
                    event.reason,
                    packets.get(id_, "") if index == 0 else "",
                )
            )
    return rows


def flow_table(events: Iterable[Event], style: Style) -> list[str]:
    """The flow table, header first."""
    header = Row("flow", "verdict", "rule", "reason", "packets")
    rows = [(r.verdict, r.flow, r.rule, r.packets, r.reason) for r in flow_rows(events)]
    heads = (header.verdict, header.flow, header.rule, header.packets, header.reason)
    return aligned([heads, *rows], style)


def hit_table(ruleset: Ruleset, metrics: Mapping[str, int], style: Style) -> list[str]:
    """How often each rule decided, in the order of the policy, with those that never did."""
    prefix = "firewall.hits."
    hits = {k.removeprefix(prefix): n for k, n in metrics.items() if k.startswith(prefix)}
    rows = [("hits", "rule", "action")]
    rows += [(str(hits.get(r.name, 0)), r.name, r.action) for r in ruleset.rules]
    rows.append((str(hits.get(DEFAULT, 0)), f"({DEFAULT})", ruleset.default.action))
    others = {MIDSTREAM: ruleset.midstream, RELATED: "by state", LIMIT: "drop"}
    rows += [(str(hits[name]), f"({name})", does) for name, does in others.items() if name in hits]
    return aligned(rows, style, right=(0,))


def aligned(rows: Sequence[Sequence[str]], style: Style, *, right: Sequence[int] = ()) -> list[str]:
    """Columns side by side, the first row being the header; no trailing blanks."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            padded = cell.rjust(width) if index in right else cell.ljust(width)
            cells.append(style(padded, cell))
        lines.append("  ".join(cells).rstrip())
    return lines


def _flow(info: FlowInfo, to_server: bool) -> str:
    client, server = _end(info.client_ip, info.client_port), _end(info.server_ip, info.server_port)
    ends = (client, server) if to_server else (server, client)
    return f"{info.protocol} {ends[0]} -> {ends[1]}"


def _end(ip: str, port: int) -> str:
    if not port:
        return ip
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
