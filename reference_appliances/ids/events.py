"""What the IDS reports about itself."""

from __future__ import annotations

import msgspec

from appliance_sdk import Event


class RulesLoaded(Event):
    """A ruleset is in force from now on."""

    rules: int
    skipped: int = 0
    """Rules that cannot be used, and with `skip_unsupported` are left out."""
    problems: list[str] = msgspec.field(default_factory=list)
    """Why, one line each; of very many the first ones."""
