"""An intrusion detection and prevention system that reads Suricata's rules, on the public API."""

from __future__ import annotations

from reference_appliances.ids.events import RulesLoaded
from reference_appliances.ids.ids import Ids
from reference_appliances.ids.settings import IdsConfig

__all__ = ["Ids", "IdsConfig", "RulesLoaded"]
