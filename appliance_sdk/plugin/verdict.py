"""What a plugin says about a packet or a flow."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, Literal, TypeAlias

Policy: TypeAlias = Literal["continue", "drop", "block", "reject"]
"""What happens when no verdict can be had: forward, drop the packet, block or reject the flow."""


MAX_REPLY_BYTES = 8500 - 60
"""What an IPv6 and a TCP header leave of the longest packet that GWLB takes back."""


class Action(IntEnum):
    """The kinds of verdict, in rising order of consequence."""

    CONTINUE = 0
    DONE = 1
    DROP = 2
    BLOCK = 3
    REJECT = 4


class Verdict:
    """Immutable; `==` compares the action only. DROP, BLOCK and REJECT are terminal.

    CONTINUE (the same as returning None): forward, keep asking. DONE: forward, I need no more of
    this flow. DROP: this packet; from `flow_opened` also: keep no flow and ask again next time.
    BLOCK: the flow, silently. REJECT: the flow, telling the ends (TCP RST, ICMP unreachable).
    """

    __slots__ = ("action", "payload", "reason", "rule")

    CONTINUE: ClassVar[Verdict]
    DONE: ClassVar[Verdict]
    DROP: ClassVar[Verdict]
    BLOCK: ClassVar[Verdict]
    REJECT: ClassVar[Verdict]

    action: Action
    reason: str
    rule: str
    payload: bytes | None

    def __init__(
        self, action: Action, reason: str = "", rule: str = "", payload: bytes | None = None
    ) -> None:
        store = object.__setattr__
        # Checked here, where the plugin's mistake is still in its own hook and answered as such.
        store(self, "action", Action(action))
        store(self, "reason", str(reason))
        store(self, "rule", str(rule))
        store(self, "payload", payload)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a Verdict is immutable; use because() or reply() to make another")

    def because(self, reason: str, *, rule: str | int = "") -> Verdict:
        """The same verdict with a reason for people and, if given, the rule that gave it."""
        return Verdict(self.action, reason, str(rule), self.payload)

    def reply(self, payload: bytes) -> Verdict:
        """The same verdict that also answers this packet's sender with `payload`, in the flow.

        With DROP or BLOCK on UDP: a datagram from the packet's destination. With REJECT on TCP:
        the bytes and a FIN to the sender, a RST to the other end. Ignored where there are no ports.
        Raises ValueError for more than fits into one packet that GWLB takes back.
        """
        if len(payload) > MAX_REPLY_BYTES:
            raise ValueError(f"reply() of {len(payload)} bytes, more than {MAX_REPLY_BYTES}")
        return Verdict(self.action, self.reason, self.rule, bytes(payload))

    @property
    def terminal(self) -> bool:
        """True for DROP, BLOCK and REJECT: nobody else is asked."""
        return self.action >= Action.DROP

    @property
    def name(self) -> str:
        """The action in lower case: "continue", "done", "drop", "block" or "reject"."""
        return self.action.name.lower()

    @classmethod
    def of(cls, policy: Policy) -> Verdict:
        """The verdict that a policy word stands for."""
        return _BY_POLICY[policy]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verdict) and other.action == self.action

    def __hash__(self) -> int:
        return hash(self.action)

    def __repr__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        rule = f" [{self.rule}]" if self.rule else ""
        return f"<{self.action.name}{rule}{why}>"


Verdict.CONTINUE = Verdict(Action.CONTINUE)
Verdict.DONE = Verdict(Action.DONE)
Verdict.DROP = Verdict(Action.DROP)
Verdict.BLOCK = Verdict(Action.BLOCK)
Verdict.REJECT = Verdict(Action.REJECT)

_BY_POLICY: dict[Policy, Verdict] = {
    "continue": Verdict.CONTINUE,
    "drop": Verdict.DROP,
    "block": Verdict.BLOCK,
    "reject": Verdict.REJECT,
}
