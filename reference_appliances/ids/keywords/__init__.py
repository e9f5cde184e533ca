"""Every keyword that rules may use: one small file for each group, and this registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from reference_appliances.ids.keywords import content, flow, meta, packet, pcre, threshold
from reference_appliances.ids.keywords.content import Content
from reference_appliances.ids.keywords.flow import FlowOption
from reference_appliances.ids.keywords.packet import Dsize, Flags
from reference_appliances.ids.keywords.pcre import Pcre
from reference_appliances.ids.keywords.threshold import Threshold
from reference_appliances.ids.option import Draft

AnyOption: TypeAlias = Content | Pcre | FlowOption | Dsize | Flags | Threshold
"""The parsed forms; a new keyword adds its own here and its parser to its group's KEYWORDS."""
Parser: TypeAlias = Callable[[Draft, str], None]
"""Adds what a keyword's value says to the rule that is being read. Raises RuleError."""

GROUPS: Mapping[str, Mapping[str, Parser]] = MappingProxyType(
    {
        "about the rule": meta.KEYWORDS,
        "payload": {**content.KEYWORDS, **pcre.KEYWORDS},
        "flow": flow.KEYWORDS,
        "packet": packet.KEYWORDS,
        "how often": threshold.KEYWORDS,
    }
)
KEYWORDS: Mapping[str, Parser] = MappingProxyType(
    {name: parser for group in GROUPS.values() for name, parser in group.items()}
)
