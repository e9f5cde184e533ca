"""The portable data plane: datagrams from UDP sockets through the engine and back, in batches."""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from appliance_sdk.dataplane.batch import ReceiveBatch
from appliance_sdk.dataplane.handover import Handover
from appliance_sdk.dataplane.listener import Listener
from appliance_sdk.dataplane.mmsg import NAME_BYTES
from appliance_sdk.dataplane.outgoing import Outgoing
from appliance_sdk.dataplane.port_replies import PortReplies
from appliance_sdk.dataplane.ports import Ports, descriptor_room
from appliance_sdk.dataplane.raw_replies import RawReplies
from appliance_sdk.dataplane.replies import SEND_WAIT_S, Replies, Sender, error_name
from appliance_sdk.dataplane.tasks import TaskLoop
from appliance_sdk.engine import FORWARD
from appliance_sdk.errors import ConfigError
from appliance_sdk.wire.geneve import PORT

if TYPE_CHECKING:
    from appliance_sdk.engine import Engine

BATCH = 64
"""Datagrams a system call; more gains nothing and keeps the first ones waiting."""
STRIDE_BYTES = 9216
"""Room for a datagram: EC2's largest MTU is 9,001, and what fills all of this was cut."""

_ADVANCE_S = 0.01
"""While packets come, the engine looks no more often after what it has no deadline for."""
_LONGEST_WAIT_S = 3600  # poll(2) counts milliseconds in an int


class SocketPlane:
    """Gives an engine what arrives at its listeners, and sends what the engine answers.

    A forwarded datagram is sent as it lies in the receive buffer, from the address that it was
    sent to, to the GWLB node that it came from, with both ports as they were. What stands in the
    engine's outbox is sent at its place in the order. The listeners stay the caller's. Make the
    plane in the process that polls it.

    Nothing that the network does is fatal: what cannot be received or sent is counted.
    """

    def __init__(
        self,
        engine: Engine,
        listeners: Sequence[socket.socket],
        *,
        raw: bool | None = None,
        batch: int = BATCH,
        reply_ports: int | None = None,
        shared_ports: bool = False,
        handover: Handover | None = None,
        clock: Callable[[], float] = time.monotonic,
        send_wait_s: float = SEND_WAIT_S,
    ) -> None:
        """Take listeners made by `open_listeners`.

        `raw`: reply through raw sockets (True), one bound socket per source port (False), or
        whichever the process may (None). `reply_ports` bounds the bound sockets, None: by the
        descriptor limit. `shared_ports`: other workers bind the same source ports; `handover` is
        the way to them. Raises ConfigError if raw sockets are demanded and not permitted.
        """
        self.engine = engine
        self.received = 0
        """Datagrams taken from the kernel, truncated ones included."""
        self.batches = 0
        """How often some were taken: the more at a time, the less there is to spare."""
        self.truncated = 0
        """Datagrams longer than 9,216 bytes: dropped before the engine."""
        self.send_errors: Counter[str] = Counter()
        """Replies that could not be sent, by the name of the errno."""
        self.receive_errors: Counter[str] = Counter()
        self.ready: list[int] = []
        """Those of `extra_fds` that the last poll found readable."""
        self._clock = clock
        self._batch = ReceiveBatch(batch, STRIDE_BYTES)
        self._listeners = {sock.fileno(): Listener(sock) for sock in listeners}
        # A reply to one of our own listeners would come round for ever.
        self._own = frozenset(one.local for one in self._listeners.values() if one.port == PORT)
        self._sender = Sender(self.send_errors, wait_s=send_wait_s)
        self._replies = self._open_replies(raw, reply_ports, shared_ports)
        self.raw = isinstance(self._replies, RawReplies)
        """Do replies leave through raw sockets?"""
        self._outgoing = Outgoing(self._replies, self.send_errors, self._own, batch, STRIDE_BYTES)
        self._poller = select.poll()
        for descriptor in self._listeners:
            self._poller.register(descriptor, select.POLLIN)
        self._tasks = TaskLoop(clock)
        engine.tasks = self._tasks
        self._waits = False
        self._advance_by = -math.inf
        self._handover = handover
        if handover is not None:
            engine.divert = handover.divert
            self._poller.register(handover.fileno(), select.POLLIN)
        self._extra: tuple[int, ...] = ()

    @property
    def sent(self) -> int:
        """Datagrams that the kernel took."""
        return self._sender.sent

    @property
    def kernel_drops(self) -> int:
        """Datagrams that the kernel dropped at a full receive buffer, as far as it has said."""
        return sum(one.drops for one in self._listeners.values())

    @property
    def unbindable_ports(self) -> int:
        """Source ports that GWLB used and that cannot be bound; always 0 with raw sockets."""
        return self._replies.unbindable_ports

    def poll(self, timeout_s: float, extra_fds: Sequence[int] = ()) -> int:
        """Wait, then take and answer one batch from each socket that has one: how many datagrams.

        Waits until something arrives, the engine's next deadline, or `timeout_s`. `extra_fds` end
        the wait too and are then in `ready`. A signal handler runs, but does not end the wait: use
        signal.set_wakeup_fd and wait for that. Raises OSError if a listener was closed.
        """
        engine, tasks = self.engine, self._tasks
        if extra_fds != self._extra:
            self._watch(extra_fds)
        if engine.outbox:
            self._answer()
        # What the packets of this poll set is due in the next one, which then does not wait.
        deadline = engine.next_deadline()
        if tasks.busy or self._waits:
            deadline = min(deadline, tasks.next_deadline())
            self._watch_tasks()
        wait_s = min(timeout_s, deadline - self._clock(), _LONGEST_WAIT_S)
        self.ready = []
        count = 0
        # Rounded up, so that what was waited for is due.
        for descriptor, events in self._poller.poll(wait_s * 1000 if wait_s > 0 else 0):
            listener = self._listeners.get(descriptor)
            if listener is None:
                count += self._other(descriptor)
            elif events & select.POLLNVAL:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            else:
                count += self._serve(descriptor, listener)
        if tasks.busy:
            engine.now = self._clock()
            tasks.pump()
        now = self._clock()
        if now >= deadline or now >= self._advance_by:
            self._advance_by = now + _ADVANCE_S
            engine.advance(now)
        if engine.outbox:
            self._answer()
        return count

    def ask_drops(self) -> None:
        """Bring `kernel_drops` up to date: else the kernel tells with the next datagram only."""
        for listener in self._listeners.values():
            listener.ask()

    def close(self) -> None:
        """Send what the engine still has to say, and close the sockets that replies leave by."""
        self._answer()
        self._tasks.close()
        self._replies.close()

    def _serve(self, descriptor: int, listener: Listener) -> int:
        """Answer what waits at a listener, up to a batch.

        Where several came at once, some more have come meanwhile: to ask the socket again costs
        less than to go round by way of all that `poll` looks after.
        """
        size = self._batch.size
        count = taken = self._serve_some(descriptor, listener, size)
        while taken > 1 and count < size:
            taken = self._serve_some(descriptor, listener, size - count)
            count += taken
        return count

    def _serve_some(self, descriptor: int, listener: Listener, most: int) -> int:
        batch, local = self._batch, listener.local
        try:
            count = batch.receive(descriptor, most)
        except OSError as error:
            self.receive_errors[error_name(error.errno or 0)] += 1
            return 0
        if not count:
            return 0
        self.received += count
        self.batches += 1
        now = self._clock()
        engine, outgoing = self.engine, self._outgoing
        receive, outbox, memory = engine.receive, engine.outbox, batch.room.map
        # Wherever they stand: whoever may be meant is asked one by one.
        loops, names = False, batch.names.map
        for address in self._own:
            loops = loops or names.find(address, 0, count * NAME_BYTES) >= 0
        first = 0
        # There are more offsets and peers than sizes; to say so would cost a keyword each time.
        places = zip(batch.offsets, batch.peers, batch.sizes)  # noqa: B905
        for i, (offset, peer, size) in enumerate(places):
            if size == STRIDE_BYTES and batch.truncated(i):
                self.truncated += 1
                end = i
            elif receive(memory, offset, offset + size, peer, local, now) == FORWARD:
                if not (outbox or loops):
                    continue
                end = i + outgoing.allows(peer)
            else:
                end = i
            outgoing.forward(batch, first, end, local)
            first = i + 1
            if outbox:
                self._take_outbox()
        outgoing.forward(batch, first, count, local)
        outgoing.flush()
        overflow = batch.overflow()
        if overflow is not None:
            listener.told(overflow)
        return count

    def _other(self, descriptor: int) -> int:
        """Something that is no listener is readable; how many datagrams that gave."""
        if self._handover is not None and descriptor == self._handover.fileno():
            return self._take_over(self._handover)
        if not (self._waits and descriptor == self._tasks.fileno()):
            self.ready.append(descriptor)
        return 0

    def _take_over(self, handover: Handover) -> int:
        """Answer what other workers have handed over."""
        now, count = self._clock(), 0
        for peer, local, payload in handover.take():
            count += 1
            if self.engine.receive(payload, 0, len(payload), peer, local, now) == FORWARD:
                self._outgoing.add(peer, local, payload)
            if self.engine.outbox:
                self._take_outbox()
        self._outgoing.flush()
        return count

    def _answer(self) -> None:
        """Send what the engine made outside of a batch."""
        self._take_outbox()
        self._outgoing.flush()

    def _take_outbox(self) -> None:
        outbox = self.engine.outbox
        for peer, local, payload in outbox:
            self._outgoing.add(peer, local, payload)
        outbox.clear()

    def _watch_tasks(self) -> None:
        """Wake for what tasks wait for, as long as there are any."""
        if self._tasks.busy is self._waits:
            return
        self._waits = self._tasks.busy
        if self._waits:
            self._poller.register(self._tasks.fileno(), select.POLLIN)
        else:
            self._poller.unregister(self._tasks.fileno())

    def _watch(self, extra_fds: Sequence[int]) -> None:
        extra = tuple(extra_fds)
        if extra == self._extra:
            return
        for descriptor in self._extra:
            if descriptor not in extra:
                self._poller.unregister(descriptor)
        for descriptor in extra:
            self._poller.register(descriptor, select.POLLIN)
        self._extra = extra

    def _open_replies(self, raw: bool | None, reply_ports: int | None, shared: bool) -> Replies:
        if raw is not False:
            try:
                return RawReplies({one.local for one in self._listeners.values()}, self._sender)
            except PermissionError as error:
                if raw:
                    hint = "give the process CAP_NET_RAW, or do without raw sockets"
                    raise ConfigError("raw sockets are not permitted", hint=hint) from error
        ports = Ports(
            self.send_errors,
            owned={
                one.port.to_bytes(2, "big") + one.local: one.sock
                for one in self._listeners.values()
            },
            capacity=descriptor_room() if reply_ports is None else reply_ports,
            shared=shared,
            clock=self._clock,
        )
        return PortReplies(ports, self._sender)
