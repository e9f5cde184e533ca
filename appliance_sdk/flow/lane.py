"""The flows of one endpoint and protocol, found by the ends of a packet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from appliance_sdk.flow.key import FlowKey, unpack_ends

if TYPE_CHECKING:
    from appliance_sdk.flow.expiry import Tracked

F = TypeVar("F", bound="Tracked")

SHARD_SHIFT = 48
"""Which bits of the ends' hash choose the shard; a dictionary looks at the low ones first."""
MANY_SHARDS, FEW_SHARDS = 64, 8
"""Dictionaries, not one: a dictionary that grows is copied in one go, and packets wait."""
SHARD_MASK = MANY_SHARDS - 1

_NOBODY: list[dict[bytes, Any]] = [{}] * MANY_SHARDS


class Lane(Generic[F]):
    """Each flow stands under its ends and under those of the answering packets.

    It is in `shards[hash(ends) >> SHARD_SHIFT & SHARD_MASK]`: the hash of bytes is seeded (see
    PYTHONHASHSEED), so that nobody outside can fill one shard.
    """

    __slots__ = ("_own", "endpoint_id", "gone", "protocol", "shards")

    def __init__(self, endpoint_id: int, protocol: int, own: int = MANY_SHARDS) -> None:
        """With so many dictionaries of its own, of which each then stands for several shards."""
        self.endpoint_id = endpoint_id
        self.protocol = protocol
        self.gone = False
        """It had no flows and was forgotten: it must not be given any."""
        self._own = own
        shards: list[dict[bytes, F]] = [{} for _ in range(own)]
        self.shards = shards * (MANY_SHARDS // own)

    def __iter__(self) -> Iterator[F]:
        """Every flow, those of one dictionary at a time: the others may change meanwhile."""
        for shard in self.shards[: self._own]:
            yield from [flow for ends, flow in shard.items() if ends is flow.ends]

    def give_up(self) -> bool:
        """Let go of everything if there are no flows; whether that is so."""
        if any(self.shards[: self._own]):
            return False
        self.gone, self._own, self.shards = True, 0, _NOBODY
        return True

    def shard(self, ends: bytes) -> dict[bytes, F]:
        """Where a flow with these ends is, if there is one."""
        return self.shards[hash(ends) >> SHARD_SHIFT & SHARD_MASK]

    def key(self, ends: bytes) -> FlowKey:
        """The whole key of a packet with these ends."""
        return (self.endpoint_id, self.protocol, *unpack_ends(ends))
