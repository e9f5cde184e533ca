"""What the demo shows, scene by scene; each claim is looked at and may turn out false."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from appliance_sdk.demo.show import Check
from appliance_sdk.demo.stage import FIREWALLS, SITE, SITE_ADDRESS, Stage
from appliance_sdk.harness import State
from appliance_sdk.harness.hosts import TcpConnection, http_get
from appliance_sdk.harness.trace import Transit
from appliance_sdk.wire import parse_packet

TELNET = 23

Scene = Callable[[Stage], Iterator[Check]]


def comes_up(stage: Stage) -> Iterator[Check]:
    """The fleet starts."""
    title = "The fleet comes up"
    stage.show.scene(title, "two firewalls behind one endpoint, an IPS behind the next")
    names = list(stage.processes)
    up = stage.run(lambda: all(stage.state(n) is State.HEALTHY for n in names), 15)
    states = ", ".join(f"{name} {stage.state(name)}" for name in names)
    yield Check(title, "every target passes its health checks", up, states)


def allowed(stage: Stage) -> Iterator[Check]:
    """One request, walked hop by hop there and back."""
    title = "A request"
    stage.show.scene(title, f"GET http://{SITE}/ through firewall and IPS, there and back")
    trace = stage.harness.trace
    trace.clear()
    began = stage.harness.now
    headers = (("Host", SITE),)
    exchange = http_get(stage.client, SITE_ADDRESS, 80, "/", began, headers=headers)
    stage.run(lambda: exchange.done or bool(exchange.failed), 5)
    stage.run(lambda: stage.harness.quiet, 1)
    mine = [packet for packet in trace if _carries(packet, b"GET / HTTP") or _carries(packet, SITE)]
    there = next((p for p in trace if _from(p, "client") and b"GET /" in p.packet), None)
    back = next((p for p in trace if _to(p, "client") and b"HTTP/1.1 200" in p.packet), None)
    for what, packet in (("There:", there), ("And back:", back)):
        if packet is not None:
            stage.show.walk(what, list(packet.lines(began)))
    yield Check(
        title,
        "the page comes back",
        exchange.status == 200,
        f"status {exchange.status}, {len(exchange.body)} bytes" if mine else exchange.failed,
    )
    for way, packet in (("request", there), ("answer", back)):
        passed = [hop.place for hop in packet.hops if hop.event == "returned"] if packet else []
        yield Check(
            title,
            f"the {way} passed a firewall and the IPS, unaltered",
            len(passed) == 2,
            " and ".join(passed) or "neither",
        )


def rejected(stage: Stage) -> Iterator[Check]:
    """One connection that the policy refuses."""
    title = "A refusal"
    stage.show.scene(title, "telnet to the same address")
    telnet = stage.client.connect(SITE_ADDRESS, TELNET, stage.harness.now)
    stage.run(lambda: bool(telnet.ended), 5)
    yield Check(title, "telnet is refused with a reset", telnet.ended == "reset", telnet.ended)
    stage.run(lambda: bool(_refusals(stage)), 3)
    rules = {str(event.get("drop", {}).get("rule", "")) for event in _refusals(stage)}
    evidence = f"rule {', '.join(sorted(rules))}" if rules else "no event"
    yield Check(title, "the firewall says which rule refused it", "no-telnet" in rules, evidence)


def attacked(stage: Stage) -> Iterator[Check]:
    """An attack in the middle of a stream, cut into small segments."""
    title = "An attack"
    stage.harness.trace.clear()
    stage.show.scene(title, "a harmless request, then on the same connection a shell command")
    connection = stage.client.connect(SITE_ADDRESS, 80, stage.harness.now)
    stage.run(lambda: _opened(connection) or bool(connection.ended), 5)
    harmless = f"GET / HTTP/1.1\r\nHost: {SITE}\r\n\r\n".encode()
    connection.send(harmless)
    stage.run(lambda: b"200 OK" in connection.received or bool(connection.ended), 5)
    first = b"200 OK" in connection.received
    yield Check(title, "its first request is answered", first, f"{len(connection.received)} bytes")
    before = len(connection.received)
    attack = f"GET /cgi?/bin/sh -c id HTTP/1.1\r\nHost: {SITE}\r\n\r\n".encode()
    for at in range(0, len(attack), 7):  # no segment has the whole of what is looked for
        connection.send(attack[at : at + 7])
        stage.pause(0.01)
    stage.run(lambda: bool(stage.events("ids-1", "alert")), 5)
    alerts = stage.events("ids-1", "alert")
    alert = alerts[0].get("alert", {}) if alerts else {}
    told = f"{alert.get('signature', 'no alert')}, {alert.get('action', '')}"
    yield Check(title, "the IPS alerts", alert.get("signature_id") == 1000001, told)
    stage.pause(1)
    got = _reached(stage, "alb", connection.local[1])
    whole = b"/bin/sh -c" in got
    kept = f"the site got {len(got)} of {len(harmless + attack)} bytes"
    yield Check(title, "the command does not reach the site", bool(got) and not whole, kept)
    more = len(connection.received) - before
    yield Check(title, "nothing answers it", more == 0, f"{more} more bytes came back")
    connection.abort()


def crashed(stage: Stage) -> Iterator[Check]:
    """A firewall is killed."""
    title = "A crash"
    pinned = _pinned(stage)
    victim, survivor = "fw-1", "fw-2"
    stage.show.scene(title, f"{victim} is killed under load; no_rebalance is the default")
    on_victim = pinned.get(victim)
    yield Check(title, f"a connection is pinned to {victim}", on_victim is not None, _ports(pinned))
    stage.harness.crash_target(victim)
    noticed = stage.run(lambda: stage.state(victim) is State.UNHEALTHY, 8)
    change = next((c for c in reversed(stage.harness.changes) if c.target == victim), None)
    reason = change.reason if change is not None else ""
    yield Check(title, f"{victim} turns unhealthy", noticed, reason or stage.state(victim))
    gateway = stage.harness.gateways[FIREWALLS]
    before = gateway.new_flows.copy()
    stage.pause(2)
    new = gateway.new_flows - before
    only = new[survivor] > 0 and not new[victim]
    yield Check(title, f"new flows go to {survivor}", only, f"{new[survivor]} to {survivor}")
    if on_victim is not None:
        received = len(on_victim.received)
        _ask(on_victim, stage)
        stage.pause(1.5)
        stuck = len(on_victim.received) == received and stage.flows_of(victim) > 0
        where = stage.target_of(stage.client, on_victim.local[1])
        yield Check(title, "the pinned flow stays there and waits in vain", stuck, f"on {where}")
        on_victim.abort()
    on_survivor = pinned.get(survivor)
    if on_survivor is not None:
        received = len(on_survivor.received)
        _ask(on_survivor, stage)
        stage.run(lambda: len(on_survivor.received) > received, 3)
        lives = len(on_survivor.received) > received
        yield Check(title, f"the flow on {survivor} goes on", lives, f"{received} bytes and more")
        on_survivor.close()


def joined(stage: Stage) -> Iterator[Check]:
    """A third firewall joins under load."""
    title = "One joins"
    stage.show.scene(title, "fw-3 is registered under load")
    gateway = stage.harness.gateways[FIREWALLS]
    before = {entry.cookie: entry.target.name for entry in gateway.flows}
    stage.add_firewall("fw-3")
    healthy = stage.run(lambda: stage.state("fw-3") is State.HEALTHY, 10)
    yield Check(title, "fw-3 turns healthy", healthy, str(stage.state("fw-3")))
    counted = gateway.new_flows["fw-3"]
    took = stage.run(lambda: gateway.new_flows["fw-3"] > counted + 2, 6)
    took_text = f"{gateway.new_flows['fw-3']} so far"
    yield Check(title, "fw-3 takes new flows", took, took_text)
    after = {entry.cookie: entry.target.name for entry in gateway.flows}
    moved = sum(before[cookie] != after[cookie] for cookie in before.keys() & after.keys())
    yield Check(title, "no flow moved to it", moved == 0, f"{moved} moved")


def drained(stage: Stage) -> Iterator[Check]:
    """A firewall drains and leaves."""
    title = "One leaves"
    stage.show.scene(title, "fw-2 gets SIGTERM: health fails, flows are served to their end")
    held = _hold_on(stage, "fw-2")
    yield Check(title, "a connection is open on fw-2", held is not None, _ports({"fw-2": held}))
    lost_before = stage.load.failed.total()
    stage.drain("fw-2")
    stage.run(lambda: stage.state("fw-2") is State.UNHEALTHY, 8)
    gateway = stage.harness.gateways[FIREWALLS]
    before = gateway.new_flows.copy()
    if held is not None:
        for _ in range(4):
            received = len(held.received)
            _ask(held, stage)
            stage.run(partial(_more, held, received), 2)
        served = not held.ended and len(held.received) > received
        yield Check(title, "its open flow is served on", served, f"{len(held.received)} bytes")
        held.close()
        stage.run(lambda: bool(held.ended), 2)
    stage.run(lambda: (gateway.new_flows - before).total() >= 5, 5)
    new = gateway.new_flows - before
    yield Check(title, "new flows go elsewhere", not new["fw-2"] and bool(new), _counts(new))
    stage.harness.remove_target(FIREWALLS, "fw-2")
    ended = stage.run(lambda: stage.processes["fw-2"].ended() is not None, 12)
    status = stage.processes["fw-2"].ended()
    yield Check(title, "fw-2 exits by itself, status 0", ended and status == 0, f"status {status}")
    stage.pause(0.5)
    lost = stage.load.failed.total() - lost_before
    yield Check(title, "no request was lost meanwhile", lost == 0, f"{lost} lost")


SCENES: tuple[Scene, ...] = (comes_up, allowed, rejected, attacked, crashed, joined, drained)


def play(stage: Stage) -> list[Check]:
    """Every scene in order."""
    checks: list[Check] = []
    for scene in SCENES:
        if scene is crashed:
            stage.load.on = True
        for check in scene(stage):
            stage.show.check(check)
            checks.append(check)
        if scene is comes_up and not checks[-1].happened:
            break  # nothing of the rest can happen
    stage.load.on = False
    return checks


def _pinned(stage: Stage) -> dict[str, TcpConnection]:
    """Open connections until every firewall has one."""
    pinned: dict[str, TcpConnection] = {}
    for _ in range(16):
        connection, where = _open(stage)
        if connection is not None and where not in pinned:
            pinned[where] = connection
        if len(pinned) == 2:
            break
    return pinned


def _hold_on(stage: Stage, target: str) -> TcpConnection | None:
    for _ in range(16):
        connection, where = _open(stage)
        if where == target:
            return connection
    return None


def _open(stage: Stage) -> tuple[TcpConnection | None, str]:
    connection = stage.client.connect(SITE_ADDRESS, 80, stage.harness.now)
    stage.run(lambda: _opened(connection) or bool(connection.ended), 3)
    where = stage.target_of(stage.client, connection.local[1])
    if not _opened(connection):
        return None, where
    _ask(connection, stage)
    stage.run(lambda: b"200 OK" in connection.received or bool(connection.ended), 3)
    return connection, where


def _ask(connection: TcpConnection, stage: Stage) -> None:
    request = f"GET / HTTP/1.1\r\nHost: {SITE}\r\n\r\n"
    connection.send(request.encode())


def _refusals(stage: Stage) -> list[dict[str, Any]]:
    return [event for name in ("fw-1", "fw-2") for event in stage.events(name, "drop")]


def _from(packet: Transit, place: str) -> bool:
    return bool(packet.hops) and packet.hops[0].place == place


def _to(packet: Transit, place: str) -> bool:
    return bool(packet.hops) and packet.hops[-1].place == place


def _carries(packet: Transit, what: bytes | str) -> bool:
    return (what.encode() if isinstance(what, str) else what) in packet.packet


def _ports(connections: dict[str, TcpConnection | None] | dict[str, TcpConnection]) -> str:
    held = [f"port {c.local[1]} on {name}" for name, c in connections.items() if c is not None]
    return ", ".join(held) or "none"


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{count} to {name}" for name, count in sorted(counter.items())) or "none"


def _opened(connection: TcpConnection) -> bool:
    return connection.state not in ("SYN-SENT", "SYN-RECEIVED", "CLOSED")


def _more(connection: TcpConnection, received: int) -> bool:
    return len(connection.received) > received or bool(connection.ended)


def _reached(stage: Stage, place: str, port: int) -> bytes:
    """What of a client's stream was delivered to a host, in sequence order."""
    pieces: dict[int, bytes] = {}
    for transit in stage.harness.trace:
        last = transit.hops[-1]
        if (last.place, last.event) != (place, "delivered"):
            continue
        headers = parse_packet(transit.packet, 0, len(transit.packet))
        if headers.source_port == port:
            pieces[headers.seq] = transit.packet[headers.payload : headers.end]
    return b"".join(pieces[seq] for seq in sorted(pieces))
