"""A stateful firewall on the public API: default deny, rules in TOML, reload without a gap."""

from __future__ import annotations

from reference_appliances.firewall.events import FirewallVerdict, PolicyLoaded
from reference_appliances.firewall.firewall import Firewall, FirewallConfig

__all__ = ["Firewall", "FirewallConfig", "FirewallVerdict", "PolicyLoaded"]
