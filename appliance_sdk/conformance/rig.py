"""What a case works with: flows to send through the appliance, and what must come of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

from appliance_sdk.conformance.case import Ability, NotConformant
from appliance_sdk.conformance.compare import Reply, carries, differences
from appliance_sdk.conformance.control import Control
from appliance_sdk.conformance.conversation import (
    ENDPOINT,
    Conversation,
    Datagram,
    PingConversation,
    TcpConversation,
    UdpConversation,
)
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.prober import HealthPort
from appliance_sdk.conformance.wires import Wire
from appliance_sdk.wire.geneve import PORT

Tap = Callable[[float, str, tuple[str, int], tuple[str, int], bytes], None]
"""Called with time, "to_target" or "from_target", source, destination and payload."""

PATIENCE_S = 2.0
"""Seconds that a reply may take before it counts as not given."""
START_S = 20.0
"""Seconds that an appliance may take until it returns its first packet."""
_FENCES = 16
"""Flows of the plain packets: where there are workers, so many find most of them."""
_LOOK_S = 0.1
GRACE_S = 0.03
"""Seconds after the reply to a later packet in which an earlier one may still be answered."""
FLOOD = 2000
"""Replies to one question that are too many to be one."""

_NARROW = (61000, 61031)


class Broken(NotConformant):
    """The appliance returns no plain packet any more, floods, or ended: a failure of any case."""


class Rig:
    """The load balancer's side of one case.

    Addresses, ports and cookies are drawn from `seed` and the case's id: the same for every run,
    whatever else is asked. Clients are in 198.18.0.0/16 (2001:2:0:1::/64), servers in
    198.19.0.0/16 (2001:2:0:2::/64) unless a case says otherwise; the suite's policy allows
    everything between them.
    """

    def __init__(
        self,
        wire: Wire,
        features: Features,
        seed: str,
        *,
        tap: Tap | None = None,
        control: Control | None = None,
    ) -> None:
        self.wire = wire
        self.features = features
        self._control = control
        self.random = random.Random(seed)
        self._tap = tap
        self._stimuli = hashlib.blake2b(digest_size=16)
        self._strays: list[Reply] = []
        self._fences = 0
        fences = 1 if Ability.CLOCK in wire.abilities else _FENCES
        self._fence_flows = [_plain_flow(40000 + n, 0x5A5A5A00 + n) for n in range(fences)]
        self._waiting = _plain_flow(39999, 0x5A000000)

    @property
    def stimuli(self) -> str:
        """A digest of all that was sent, in order."""
        return self._stimuli.hexdigest()

    @property
    def control(self) -> Control:
        """The appliance's process and health port: for cases that need "sockets" or "process"."""
        assert self._control is not None, "this case needs sockets and does not say so"
        return self._control

    def ended(self) -> str:
        """How the appliance ended, and what it said, where no case meant it to; "" if it runs."""
        control = self._control
        if control is None or not control.running:
            return ""
        return control.last_words(GRACE_S)

    @property
    def health(self) -> HealthPort:
        """Its health checks: for cases that need "health"."""
        control, nodes = self.control, self.wire.nodes[:2]
        http = self.features.http_health
        return HealthPort(control.address, control.health_port, control.health_path, nodes, http)

    def healthy(self, *, http: bool | None = None) -> HealthPort:
        """Its health checks, as soon as one succeeds. Raises NotConformant if none does.

        `http`: over HTTP or TCP, by default as the appliance declares.
        """
        port, control = self.health, self.control
        if http is not None:
            port = port._replace(http=http)
        # All cases together wait for it once.
        deadline = self.wire.now + (0.0 if control.was_healthy is False else START_S)
        while reason := port.failing():
            control.was_healthy = bool(control.was_healthy)
            if self.wire.now > deadline or control.last_words():
                raise NotConformant(f"not healthy: {reason}{control.last_words()}")
            self.advance(_LOOK_S)
        control.was_healthy = True
        return port

    # Flows.

    def tcp(
        self,
        server_port: int = 443,
        *,
        client: str = "",
        server: str = "",
        client_port: int = 0,
        ipv6: bool = False,
        endpoint: str = ENDPOINT,
    ) -> TcpConversation:
        """A TCP connection that has not begun."""
        ends = self._ends(client, server, ipv6)
        port = client_port or self.random.randrange(32768, 60000)
        return TcpConversation(*ends, port, server_port, endpoint=endpoint, **self._tokens())

    def udp(
        self,
        server_port: int = 53,
        *,
        client: str = "",
        server: str = "",
        client_port: int = 0,
        ipv6: bool = False,
        endpoint: str = ENDPOINT,
    ) -> UdpConversation:
        """A flow of UDP datagrams."""
        ends = self._ends(client, server, ipv6)
        port = client_port or self.random.randrange(32768, 60000)
        return UdpConversation(*ends, port, server_port, endpoint=endpoint, **self._tokens())

    def ping(self, *, client: str = "", server: str = "", ipv6: bool = False) -> PingConversation:
        """ICMP echo between two hosts."""
        return PingConversation(*self._ends(client, server, ipv6), **self._tokens())

    def flow(self, *, client: str = "", server: str = "", ipv6: bool = False) -> Conversation:
        """Two ends, for packets of any protocol: `flow.carry(packet)`."""
        return Conversation(*self._ends(client, server, ipv6), **self._tokens())

    def cookie(self) -> int:
        """A flow cookie that no flow has."""
        return self.random.getrandbits(32)

    # Asking.

    def returned(self, *datagrams: Datagram, ttl_may_fall: bool = True) -> None:
        """Send each and have it back as it must come back before the next one."""
        for datagram in datagrams:
            self.send(datagram)
            self.comes_back(datagram, ttl_may_fall=ttl_may_fall)

    def comes_back(
        self, datagram: Datagram, *, ttl_may_fall: bool = True, patience_s: float = PATIENCE_S
    ) -> None:
        """A datagram that was sent is given back: in its own encapsulation, unaltered."""
        deadline = self.wire.now + patience_s
        self._receive(0.0)
        while (reply := self._reply_to(datagram)) is None:
            patience = deadline - self.wire.now
            if patience <= 0:
                raise NotConformant("the packet was not returned" + self._instead())
            self._receive(patience)
        node, address = self.wire.nodes[datagram.node], self.wire.addresses[datagram.address]
        wrong = differences(datagram, reply, node, address, ttl_may_fall=ttl_may_fall)
        if wrong:
            raise NotConformant("the reply is wrong: " + "; ".join(wrong))

    def refused(self, *datagrams: Datagram) -> list[Reply]:
        """Send them; none may come back. What else came for them, such as a reset, is returned."""
        replies = self.answers(*datagrams)
        for datagram in datagrams:
            for reply in replies:
                if carries(reply, datagram):
                    raise NotConformant("the packet was returned, and must not be")
        return replies

    def silence(self, *datagrams: Datagram) -> None:
        """Send them; nothing at all may be sent for them."""
        replies = self.answers(*datagrams)
        if replies:
            size = len(replies[0].payload)
            raise NotConformant(
                f"answered, with {len(replies)} datagrams, the first of {size} bytes"
            )

    def answers(self, *datagrams: Datagram) -> list[Reply]:
        """Send them and take all that comes until a plain packet, sent after them, is back."""
        for datagram in datagrams:
            self.send(datagram)
        self.alive()
        replies, self._strays = self._strays, []
        return replies

    def alive(self, patience_s: float = PATIENCE_S) -> None:
        """Plain packets come back. Raises Broken.

        They are of several flows: an appliance with several workers gives each some of the flows,
        and what one of them returns says nothing about what another is still at.
        """
        self._fences += 1
        plain = [flow.to_server(b"conformance %d" % self._fences) for flow in self._fence_flows]
        for one in plain:
            self.send(one)
        for one in plain:
            self._has_back(one, patience_s)
        self._receive(GRACE_S)

    def comes_up(self, patience_s: float) -> str:
        """Wait for an appliance that was started until it returns packets: "", or what is wrong.

        How often it is asked until then is not among the stimuli. The answers to packets that it
        found when it came up are taken away.
        """
        deadline = self.wire.now + patience_s
        look_s = _LOOK_S
        while True:
            try:
                # Each is told from the others: a late answer is not taken for that to the next.
                self._waiting.cookie += 1
                question = self._waiting.to_server(b"are you up? %d" % self._waiting.cookie)
                self._transmit(question)
                self._has_back(question, min(look_s, PATIENCE_S))
                self._receive(GRACE_S)
                self._strays.clear()
                return ""
            except NotConformant as error:
                problem = str(error)
            look_s *= 1.5
            ended = self._control.last_words() if self._control is not None else ""
            if ended or self.wire.now >= deadline:
                return problem + ended

    def restart(self, patience_s: float = START_S) -> str:
        """End the appliance as a crash would, start it again and wait for its first packet: "", or
        what is wrong."""
        self.control.kill()
        self.control.start()
        return self.comes_up(patience_s)

    def send(self, datagram: Datagram) -> None:
        """Send, and wait for nothing."""
        self._stimuli.update(b"%d %d %d " % (datagram.node, datagram.address, datagram.source_port))
        self._stimuli.update(datagram.payload)
        self._transmit(datagram)

    def _transmit(self, datagram: Datagram) -> None:
        if self._tap is not None:
            source = self.wire.nodes[datagram.node], datagram.source_port
            destination = self.wire.addresses[datagram.address], PORT
            self._tap(self.wire.now, "to_target", source, destination, datagram.payload)
        self.wire.send(datagram)

    def outer_checksums(self, on: bool) -> None:
        """Whether datagrams are sent with a UDP checksum; by default they have 0."""
        self.wire.outer_checksums(on)

    def advance(self, seconds: float) -> None:
        """Let time pass: at once where the wire has a clock of its own, else really."""
        self.wire.advance(seconds)

    def alerts(self) -> list[dict[str, Any]]:
        """What the appliance reported since the case began, as EVE JSON objects."""
        return self.wire.alerts()

    def finish(self) -> None:
        """The end of a case: the appliance lives, and has sent nothing that answers nothing."""
        if self._control is not None and not self._control.running:
            return  # the case ended it
        self.alive()
        if self._strays:
            raise NotConformant(
                f"{len(self._strays)} datagrams came that answer nothing" + self._instead()
            )

    def _has_back(self, plain: Datagram, patience_s: float) -> None:
        """A plain packet that was sent comes back. Raises Broken."""
        try:
            self.comes_back(plain, patience_s=patience_s)
        except NotConformant as error:
            raise Broken(f"a plain packet sent afterwards: {error}") from None

    def _reply_to(self, datagram: Datagram) -> Reply | None:
        """The first that looks like a reply, right or wrong."""
        for reply in self._strays:
            if carries(reply, datagram) or reply.payload.startswith(datagram.header):
                self._strays.remove(reply)
                return reply
        return None

    def _receive(self, patience_s: float) -> None:
        replies = self.wire.receive(max(patience_s, 0.0))
        for reply in replies:
            if self._tap is not None:
                self._tap(self.wire.now, "from_target", *reply)
        self._strays += replies
        if len(self._strays) > FLOOD:
            count = len(self._strays)
            self._strays.clear()
            raise Broken(f"it floods: {count} datagrams came that answer nothing")

    def _instead(self) -> str:
        strays, self._strays = self._strays, []
        if not strays:
            return ""
        first = strays[0]
        return (
            f"; instead came {len(strays)}, the first {len(first.payload)} bytes from "
            f"{first.source[0]}:{first.source[1]} to {first.destination[0]}:{first.destination[1]}"
        )

    def _ends(self, client: str, server: str, ipv6: bool) -> tuple[str, str]:
        number = self.random.randrange(1, 250), self.random.randrange(1, 250)
        if ipv6:
            own = f"2001:2:0:1::{number[0]:x}", f"2001:2:0:2::{number[1]:x}"
        else:
            own = f"198.18.{number[0]}.{number[1]}", f"198.19.{number[1]}.{number[0]}"
        return client or own[0], server or own[1]

    def _tokens(self) -> dict[str, Any]:
        port = self.random.randint(_NARROW[0] + 1, _NARROW[1])
        return {"cookie": self.cookie(), "source_port": port}


def _plain_flow(client_port: int, cookie: int) -> UdpConversation:
    ends = "198.18.255.254", "198.19.255.254"
    return UdpConversation(*ends, client_port, 7, cookie=cookie, source_port=_NARROW[0])


def expect(holds: bool, otherwise: str) -> None:
    """Raise NotConformant with `otherwise` unless it holds."""
    if not holds:
        raise NotConformant(otherwise)
