"""What a data plane is about to send, in its order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from appliance_sdk.dataplane.batch import Batch, Scratch
from appliance_sdk.dataplane.replies import Replies, Run


class Outgoing:
    """Collects datagrams where they lie, and copies of others, until `flush` sends them.

    Nothing goes to an address in `own`, where it would come round for ever, and nothing of our own
    that is longer than `stride`: both are counted in `errors`.
    """

    def __init__(
        self,
        replies: Replies,
        errors: Counter[str],
        own: Collection[bytes],
        size: int,
        stride: int,
    ) -> None:
        self._replies = replies
        self._errors = errors
        self._own = own
        self._scratch = Scratch(size, stride)
        self._runs: list[Run] = []

    def allows(self, peer: bytes) -> bool:
        """Whether a reply to a peer may go; if not, it is counted."""
        if peer[2:] in self._own:
            self._errors["ELOOP"] += 1
            return False
        return True

    def forward(self, batch: Batch, first: int, end: int, local: bytes) -> None:
        """Datagrams of a batch, from `first` to before `end`: they stay in place until the flush.

        Whoever calls has asked `allows`.
        """
        if first == end:
            return
        runs = self._runs
        if runs and runs[-1][0] is batch and runs[-1][2:] == (first, local):
            first = runs.pop()[1]
        runs.append((batch, first, end, local))

    def add(self, peer: bytes, local: bytes, payload: bytes) -> None:
        """A datagram of our own."""
        if not self.allows(peer):
            return
        scratch = self._scratch
        if len(payload) > scratch.stride:
            self._errors["EMSGSIZE"] += 1
            return
        if len(scratch.sizes) == scratch.size:
            self.flush()
        index = scratch.add(peer, payload)
        self.forward(scratch, index, index + 1, local)

    def flush(self) -> None:
        """Send everything."""
        if self._runs:
            self._replies.send(self._runs)
            self._runs.clear()
            if self._scratch.sizes:
                self._scratch.clear()
