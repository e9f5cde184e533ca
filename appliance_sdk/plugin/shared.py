"""What the instances of a plugin share over the workers of one appliance."""

from __future__ import annotations

from typing import Protocol

from appliance_sdk.errors import PluginError


class SharedOwner(Protocol):
    """What stands behind it, in the engine."""

    now: float

    def shared_count(self, scope: str, key: bytes, window_s: float, n: int) -> int: ...
    def shared_put(self, scope: str, key: bytes, value: bytes, ttl_s: float) -> bool: ...
    def shared_get(self, scope: str, key: bytes) -> bytes | None: ...


class Shared:
    """Counters and small values of one plugin in one zone: the same in every worker.

    They are in memory: what one worker has written, the others read at once. They end with the
    appliance, and do not reach the other targets of the load balancer.
    """

    __slots__ = ("_owner", "_plugin", "_scope")

    def __init__(self, owner: SharedOwner, plugin: str, zone: str) -> None:
        self._owner = owner
        self._plugin = plugin
        self._scope = f"{plugin} {zone}"

    def count(self, key: bytes, *, window_s: float, n: int = 1) -> int:
        """Add `n` to a counter; the total of all workers in the window of `window_s` seconds.

        Windows follow each other: a counter begins at 0 in each. When there are more counters
        than `[engine.shared] counters`, those with the lowest count give way.
        """
        if not window_s > 0 or n < 0:
            raise PluginError(self._plugin, f"count(window_s={window_s:g}, n={n}) makes no sense")
        return self._owner.shared_count(self._scope, key, window_s, n)

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> None:
        """Have `get` answer `value` in every worker for `ttl_s` seconds; the newest counts.

        Raises PluginError for a value that is larger than `[engine.shared] values_bytes`.
        """
        if not self._owner.shared_put(self._scope, key, value, ttl_s):
            raise PluginError(self._plugin, f"put(): {len(value)} bytes are too many to share")

    def get(self, key: bytes) -> bytes | None:
        """The newest value of a key, None if there is none or it is too old."""
        return self._owner.shared_get(self._scope, key)
