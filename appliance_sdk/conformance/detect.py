"""`--features auto`: finds out what an appliance can do by trying it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from appliance_sdk.conformance.case import Ability, NotConformant
from appliance_sdk.conformance.doors import Door
from appliance_sdk.conformance.features import Features
from appliance_sdk.conformance.rig import Rig
from appliance_sdk.errors import ApplianceError
from appliance_sdk.wire import build_ip, fragment_packet


class Finding(NamedTuple):
    """What was decided about one feature."""

    name: str
    there: bool
    why: str


def detect_features(door: Door, base: Features) -> tuple[Features, list[Finding]]:
    """The features of an appliance; those that cannot be tried stay as in `base`.

    A feature that is broken looks like one that is not there: declare what you want to be held to.
    Raises HarnessError if the appliance does not come up.
    """
    findings = list(_findings(door, base))
    decided = {finding.name: finding.there for finding in findings}
    return msgspec.structs.replace(base, **decided), findings


def _findings(door: Door, base: Features) -> Iterator[Finding]:
    for name in Features.__struct_fields__:
        needs, attempt = _ATTEMPTS.get(name, (None, None))
        if attempt is None or (needs is not None and needs not in door.abilities):
            yield Finding(name, getattr(base, name), "not tried: as declared")
            continue
        with door.open(base, f"detect {name}", None) as rig:
            try:
                attempt(rig)
                yield Finding(name, True, "tried, and it works")
            except (NotConformant, ApplianceError) as error:
                yield Finding(name, False, str(error))
            if needs is Ability.PROCESS:
                rig.restart()
            else:
                rig.comes_up(2.0)


def _ipv6(rig: Rig) -> None:
    rig.returned(rig.udp(ipv6=True).to_server(b"six"))


def _jumbo(rig: Rig) -> None:
    rig.returned(rig.udp().to_server(b"j" * 8472))


def _fragments(rig: Rig) -> None:
    flow = rig.udp()
    packet = flow.to_server(b"f" * 2000).inner
    pieces = fragment_packet(packet[:6] + b"\0\0" + packet[8:], 1500)
    rig.returned(*(flow.carry(piece) for piece in pieces))


def _other_protocols(rig: Rig) -> None:
    flow = rig.flow()
    rig.returned(flow.carry(build_ip(*flow.ends(False), 50, bytes(40))))


def _midstream(rig: Rig) -> None:
    flow = rig.tcp()
    rig.returned(flow.to_server(b"in the middle"), flow.to_client(b"of it"))


def _every_source_port(rig: Rig) -> None:
    for port in (1, 53, 65535):
        flow = rig.udp()
        flow.source_port = port
        rig.returned(flow.to_server(b"port"))


def _every_address(rig: Rig) -> None:
    rig.returned(rig.udp().to_server(b"address").changed(address=1))


def _origins(rig: Rig) -> None:
    rig.silence(rig.udp().to_server(b"stranger").changed(node=2))


def _http_health(rig: Rig) -> None:
    rig.healthy(http=True)


def _drain(rig: Rig) -> None:
    rig.control.terminate()
    for _ in range(5):
        rig.advance(0.1)
        rig.returned(rig.udp().to_server(b"drained?"))


_ATTEMPTS: dict[str, tuple[Ability | None, Callable[[Rig], None]]] = {
    "ipv6": (None, _ipv6),
    "jumbo": (None, _jumbo),
    "fragments": (None, _fragments),
    "other_protocols": (None, _other_protocols),
    "midstream": (None, _midstream),
    "http_health": (Ability.HEALTH, _http_health),
    "every_source_port": (None, _every_source_port),
    "every_address": (None, _every_address),
    "origins": (None, _origins),
    "drain": (Ability.PROCESS, _drain),
}
"""What the door must be able to do, and how a feature is tried."""
