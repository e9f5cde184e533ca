"""`flow`: which way, and whether the connection is established."""

from __future__ import annotations

from appliance_sdk import near_miss
from reference_appliances.ids.option import Condition, Draft, Option, Subject
from reference_appliances.ids.problems import RuleError

_WORDS: dict[str, tuple[str, bool]] = {
    "to_server": ("to_server", True),
    "from_client": ("to_server", True),
    "to_client": ("to_server", False),
    "from_server": ("to_server", False),
    "established": ("established", True),
    "not_established": ("established", False),
    "only_stream": ("stream", True),
    "no_stream": ("stream", False),
}
_WITHOUT_EFFECT = ("stateless", "no_frag")
"""Fragments are whole packets before a rule sees them."""


class FlowOption(Option, frozen=True, tag="flow"):
    """What the flow must be like; None: it does not matter."""

    to_server: bool | None = None
    established: bool | None = None
    stream: bool | None = None
    """Matched in the reassembled stream only, or in packets only."""

    def condition(self) -> Condition | None:
        """Direction is part of the rule's index; what is left is the state."""
        wanted = self.established
        if wanted is None:
            return None

        def holds(subject: Subject) -> bool:
            return subject.established is wanted

        return holds


def _flow(draft: Draft, value: str) -> None:
    draft.once("flow")
    found: dict[str, bool] = {}
    for part in value.split(","):
        word = part.strip().lower()
        if word in _WITHOUT_EFFECT:
            continue
        if word == "only_frag":
            raise RuleError("`only_frag` is not supported", keyword="flow", unsupported=True)
        if word not in _WORDS:
            hint = near_miss(word, [*_WORDS, *_WITHOUT_EFFECT])
            raise RuleError(f"unknown word `{word[:40]}`", keyword="flow", hint=hint)
        field, wanted = _WORDS[word]
        if found.get(field, wanted) != wanted:
            raise RuleError(f"`{word}` contradicts what stands before it", keyword="flow")
        found[field] = wanted
    draft.options.append(FlowOption(**found))


KEYWORDS = {"flow": _flow}
