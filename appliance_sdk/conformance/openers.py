"""From what stands for an appliance (a plugin, a command, an address) to the door to it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance_sdk.conformance.control import Control
from appliance_sdk.conformance.doors import Door, MemoryDoor, UdpDoor
from appliance_sdk.conformance.places import Apart, Ground, Place, Together
from appliance_sdk.conformance.policy_files import POLICY
from appliance_sdk.conformance.rig import START_S
from appliance_sdk.conformance.wires import MemoryWire, Plane
from appliance_sdk.dataplane.memory import MemoryPlane
from appliance_sdk.errors import HarnessError
from appliance_sdk.harness import InProcess, Running, Subprocess
from appliance_sdk.harness.processes import ApplianceProcess
from appliance_sdk.harness.scratch import scratch_folder
from appliance_sdk.plugin.base import Plugin
from appliance_sdk.plugin.events import Event

HEALTH_PORT = 8080
"""Where an appliance that is started here shall answer health checks, if nobody says otherwise."""


def open_door(
    appliance: Any,
    plane: str = "",
    *,
    netns: bool = False,
    start_s: float = START_S,
    raw: bool | None = None,
) -> Door:
    """The door to an appliance: a Plugin class, InProcess, Subprocess or Running.

    `plane` is "memory" or "udp"; by default what is in this process is asked there. With `netns`
    what is started runs in a network namespace of its own. `raw`: a plugin over UDP answers by a
    raw socket, by default if it may. A command is given CONFORMANCE_POLICY
    and CONFORMANCE_EVENTS in its environment. Raises HarnessError.
    """
    if isinstance(appliance, type) and issubclass(appliance, Plugin):
        appliance = InProcess(appliance)
    if plane not in ("", "memory", "udp"):
        raise HarnessError(f"no plane {plane!r}: memory or udp")
    if isinstance(appliance, InProcess):
        names = ", ".join(plugin.name for plugin in appliance.plugins)
        if plane != "udp" and not netns:
            return _in_memory(appliance, f"{names} in this process")
        return _started(appliance, f"{names} over UDP", start_s, netns, raw)
    if plane == "memory":
        raise HarnessError("only a plugin can be asked in memory, a process or address cannot")
    if isinstance(appliance, Subprocess):
        netns = netns or appliance.netns
        return _started(appliance, " ".join(appliance.command), start_s, netns)
    if netns:
        raise HarnessError("only what the suite starts can have a network namespace of its own")
    if isinstance(appliance, Running):
        return _running(appliance, start_s)
    kind = type(appliance).__name__
    raise HarnessError(f"{kind} is no appliance: neither a plugin nor what runs one")


def _in_memory(appliance: InProcess, description: str) -> Door:
    def make(emit: Callable[[Event], None], now: float) -> Plane:
        return MemoryPlane(appliance.start(now, emit, origins=MemoryWire.origins))

    return MemoryDoor(make, description)


def _started(
    appliance: InProcess | Subprocess,
    description: str,
    start_s: float,
    netns: bool,
    raw: bool | None = None,
) -> Door:
    with contextlib.ExitStack() as owned:
        folder = owned.enter_context(scratch_folder("conformance-"))
        ground: Ground = owned.enter_context(contextlib.closing(Apart() if netns else Together()))
        place = ground.place
        events = folder / "events.json"
        log = folder / "output.log"
        process: ApplianceProcess
        port, path = HEALTH_PORT, "/"
        if isinstance(appliance, InProcess):
            process = appliance.forked(
                port,
                origins=place.origins,
                events=str(events),
                log=log,
                addresses=place.addresses,
                raw=raw,
            )
        else:
            port, path = appliance.health_port, appliance.health_path
            process = appliance.again(
                port,
                origins=place.origins,
                env={"CONFORMANCE_POLICY": str(POLICY), "CONFORMANCE_EVENTS": str(events)},
                log=log,
                device=ground.device,
            )
        control = Control(
            place.addresses[0],
            process=process,
            health_port=port,
            health_path=path,
            inside=ground.appliance,
        )
        door = UdpDoor(
            f"{description}, in a network namespace" if netns else description,
            place,
            control,
            events=events,
            may_restart=True,
            start_s=start_s,
            inside=ground.balancer,
        )
        door.owned = owned.pop_all()
        return door


def _running(appliance: Running, start_s: float) -> Door:
    control = Control(
        appliance.address, health_port=appliance.health_port, health_path=appliance.health_path
    )
    place = _place_before(appliance.address)
    events = Path(appliance.events) if appliance.events else None
    return UdpDoor(f"{appliance.address}:6081", place, control, events=events, start_s=start_s)


def _place_before(address: str) -> Place:
    """Where the load balancer is, seen from an appliance that runs on an address."""
    try:
        ip = ipaddress.IPv4Address(address)
    except ValueError:
        raise HarnessError(f"{address!r} is no IPv4 address") from None
    if ip.is_loopback:
        place = Place.on_loopback()
        return Place(place.nodes, place.stranger, place.origins, (address, place.addresses[1]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((address, 9))
        except OSError as error:
            raise HarnessError(f"{address}: {error.strerror}") from None
        own = sock.getsockname()[0]
    return Place((own, own), own, f"{own}/32", (address, address))
