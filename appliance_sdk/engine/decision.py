"""The words in which the engine speaks about a datagram and a flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from appliance_sdk.wire.buffer import Buffer

FORWARD, DROP, REPLACED, ASKED = 0, 1, 2, 3
"""What to do with a datagram: send it back as received, nothing, or send what is in the outbox.

ASKED stays inside: the handlers have let a packet pass, the rest is still to do."""

BYPASSED, HANDLED, BLOCKED, HELD = 0, 1, 2, 3
"""A flow's mode: nobody looks at its packets, somebody does, they are dropped, they wait."""

Place: TypeAlias = tuple[bytes, bytes, "Buffer", int, int]
"""Where a packet stands: peer, local, buffer, start of the datagram, start of the inner packet."""
