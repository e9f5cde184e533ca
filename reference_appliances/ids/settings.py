"""The `[plugins.ids]` table."""

from __future__ import annotations

from typing import Literal, TypeAlias

from appliance_sdk import PluginConfig
from reference_appliances.ids.rule import ACTIONS, RuleAction

MidstreamFlows: TypeAlias = Literal["auto", "inspect", "packets", "block", "reject"]

VARIABLES: dict[str, str] = {
    "HOME_NET": "[192.168.0.0/16,10.0.0.0/8,172.16.0.0/12,fc00::/7]",
    "EXTERNAL_NET": "!$HOME_NET",
    **dict.fromkeys(
        (
            *("HTTP_SERVERS", "SMTP_SERVERS", "SQL_SERVERS", "DNS_SERVERS"),
            *("TELNET_SERVERS", "AIM_SERVERS", "DC_SERVERS", "DNP3_SERVER"),
            *("DNP3_CLIENT", "MODBUS_SERVER", "MODBUS_CLIENT", "ENIP_SERVER"),
            *("ENIP_CLIENT"),
        ),
        "$HOME_NET",
    ),
    "HTTP_PORTS": "80",
    "SHELLCODE_PORTS": "!80",
    "ORACLE_PORTS": "1521",
    "SSH_PORTS": "22",
    "FTP_PORTS": "21",
    "FILE_DATA_PORTS": "[$HTTP_PORTS,110,143]",
    "DNP3_PORTS": "20000",
    "MODBUS_PORTS": "502",
    "VXLAN_PORTS": "4789",
    "TEREDO_PORTS": "3544",
    "GENEVE_PORTS": "6081",
}
"""What public rule sets expect to be defined, with the values that Suricata ships."""


class IdsConfig(PluginConfig, frozen=True, kw_only=True):
    """What the IDS can be told. `midstream` stays at "continue"; see `midstream_flows`."""

    rules: tuple[str, ...]
    """Rule files, or patterns such as "rules/*.rules"; read again on SIGHUP."""
    mode: Literal["ids", "ips"] = "ids"
    """ids: every rule only reports. ips: drop and reject do what they say."""
    vars: dict[str, str | int | tuple[str | int, ...]] = {}
    """Variables of the rules, without the `$`; those that are not here have Suricata's values."""
    midstream_flows: MidstreamFlows = "auto"
    """Connections whose beginning was not seen: "inspect" their streams from here on as if they
    were established, look at single "packets" only, "block" or "reject" them. "auto" inspects in
    ids mode and rejects in ips mode: what cannot be judged must begin again."""
    skip_unsupported: bool = False
    """Leave out rules that cannot be used, and say which, instead of refusing to start."""
    classification: str = ""
    """A classification.config in place of the built-in classes."""
    action_order: tuple[RuleAction, ...] = ("pass", "drop", "reject", "alert")
    """Which rules come first when several match a packet; then counts their priority."""
    alerts_per_packet: int = 15
    """Alerts that one packet can cause; those of the best order. Suricata's default."""

    def __post_init__(self) -> None:
        """What types cannot say."""
        if sorted(self.action_order) != sorted(ACTIONS):
            raise ValueError("`action_order` must name alert, drop, reject and pass, each once")
        if self.alerts_per_packet < 1:
            raise ValueError("`alerts_per_packet` must be at least 1")
        if not self.rules:
            raise ValueError("`rules` must name at least one file")

    @property
    def variables(self) -> dict[str, str]:
        """Every variable as the text that stands for it in rules."""
        own = {name.removeprefix("$"): as_group(value) for name, value in self.vars.items()}
        return {**VARIABLES, **own}


def as_group(value: str | int | tuple[str | int, ...]) -> str:
    """A value or a list as an address or port group."""
    if isinstance(value, tuple):
        return f"[{','.join(map(str, value))}]"
    return str(value)
