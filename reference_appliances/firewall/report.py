"""What a replay decided, as rows for tables: the flows with verdict, rule and reason; the hits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from appliance_sdk import Event, FlowEnded, FlowInfo, show_end
from reference_appliances.firewall.events import FirewallVerdict
from reference_appliances.firewall.ruleset import DEFAULT, LIMIT, MIDSTREAM, RELATED, Ruleset


class Row(NamedTuple):
    """One line of the flow table."""

    verdict: str
    flow: str
    rule: str
    packets: str
    """To the server / to the client, those that were dropped included."""
    reason: str


class Hits(NamedTuple):
    """One line of the hit table."""

    hits: str
    action: str
    rule: str


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
                    event.action,
                    _flow(flows[id_], event.to_server),
                    event.rule,
                    packets.get(id_, "") if index == 0 else "",
                    event.reason,
                )
            )
    return rows


def hit_rows(ruleset: Ruleset, metrics: Mapping[str, int]) -> list[Hits]:
    """How often each rule decided, in the order of the policy, with those that never did."""
    prefix = "firewall.hits."
    hits = {k.removeprefix(prefix): n for k, n in metrics.items() if k.startswith(prefix)}
    rows = [Hits(str(hits.get(r.name, 0)), r.action, r.name) for r in ruleset.rules]
    rows.append(Hits(str(hits.get(DEFAULT, 0)), ruleset.default.action, f"({DEFAULT})"))
    others = {MIDSTREAM: ruleset.midstream, RELATED: "by state", LIMIT: "drop"}
    rows += [
        Hits(str(hits[name]), act, f"({name})") for name, act in others.items() if name in hits
    ]
    return rows


def _flow(info: FlowInfo, to_server: bool) -> str:
    ends = [show_end(info.client_ip, info.client_port), show_end(info.server_ip, info.server_port)]
    sender, receiver = ends if to_server else reversed(ends)
    return f"{info.protocol} {sender} -> {receiver}"
