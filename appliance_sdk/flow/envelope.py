"""What stands around the packets of a flow, in two parts: its own, and what many flows share."""

from __future__ import annotations

import struct

HEADER_BYTES = 40
"""Of GENEVE, as GWLB sends it: the last four are the flow cookie."""
split_header = struct.Struct("<36sI").unpack_from
"""All before the cookie, and the cookie, in the byte order of most machines, which is the cheapest:
it is compared, never calculated with."""
WHOLE = -1
"""For a cookie: the header is another one, which is not taken apart."""


class Envelope:
    """The GENEVE header before the cookie, and the address of ours that the datagram came to.

    All flows of an endpoint and attachment have it in common.
    """

    __slots__ = ("head", "local")

    def __init__(self, head: bytes, local: bytes) -> None:
        self.head = head
        self.local = local

    def header(self, cookie: int) -> bytes:
        """The whole GENEVE header of a flow with this cookie."""
        return self.head if cookie == WHOLE else self.head + cookie.to_bytes(4, "little")


NO_ENVELOPE = Envelope(b"", b"")
"""Of a flow that no packet has come of yet."""
