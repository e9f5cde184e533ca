"""What an IDS reported about the suite's signatures, in EVE JSON, waited for and counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appliance_sdk.conformance.compare import carries
from appliance_sdk.conformance.conversation import Datagram, TcpConversation
from appliance_sdk.conformance.policy_files import read_policy
from appliance_sdk.conformance.rig import Rig, expect

ALERT_S = 10.0
"""Seconds that an alert may take until it can be read."""
_MUTE_S = 2.0
"""The same once nothing at all came in that time: then the cases that follow need not wait."""
_LOOK_S = 0.02

CONTENT = {signature.sid: signature.content for signature in read_policy().signatures}
"""What each signature looks for, by sid."""
REQUEST, ANY_CASE, ANSWER, NAME, UPLOAD, LOOKUP, LOGIN, MARK = CONTENT
"""The sids. Uploads and lookups are dropped, logins rejected, the others reported."""


def http(content: bytes) -> bytes:
    """A request with this in its path."""
    return b"GET /" + content + b" HTTP/1.1\r\nHost: example\r\n\r\n"


def question(sid: int) -> bytes:
    """A DNS query (RFC 1035 §4.1) for the name that a signature looks for."""
    return b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + CONTENT[sid] + b"\0\1\0\1"


def opened(rig: Rig) -> TcpConversation:
    """A connection to port 80, behind its handshake."""
    flow = rig.tcp(80)
    rig.returned(*flow.handshake())
    return flow


def pieces(flow: TcpConversation, data: bytes, count: int) -> list[Datagram]:
    """Data from the client in so many segments, in order."""
    size = -(-len(data) // count)
    return [flow.to_server(data[at : at + size]) for at in range(0, len(data), size)]


def alerts(rig: Rig, sid: int) -> list[dict[str, Any]]:
    """The alerts of one signature since the case began."""
    return [
        event
        for event in rig.alerts()
        if event.get("event_type") == "alert"
        and isinstance(event.get("alert"), dict)
        and event["alert"].get("signature_id") == sid
    ]


def reported(rig: Rig, sid: int, count: int = 1) -> list[dict[str, Any]]:
    """The alerts of a signature, which are so many and no more; waits for them.

    Raises NotConformant. With a count of 0 it waits until what was sent has been looked at.
    """
    enough = _wait(rig, lambda: len(alerts(rig, sid)) >= count)
    got = len(alerts(rig, sid))
    expect(enough, f"{got} alerts of signature {sid}, not {count}, within {ALERT_S:g} s")
    mark = rig.udp(53)
    rig.returned(mark.to_server(question(MARK)))
    seen = _wait(rig, lambda: any(_is_from(alert, mark.client_port) for alert in alerts(rig, MARK)))
    found = alerts(rig, sid)
    expect(len(found) == count, f"{len(found)} alerts of signature {sid}, not {count}")
    expect(seen, f"no alert of signature {MARK} within {ALERT_S:g} s, which marks the end")
    return found


def arrived(rig: Rig, *datagrams: Datagram) -> list[Datagram]:
    """Send them; those that came back, so that the receiver has them."""
    replies = rig.answers(*datagrams)
    return [one for one in datagrams if any(carries(reply, one) for reply in replies)]


def _wait(rig: Rig, holds: Callable[[], bool]) -> bool:
    patience_s = _MUTE_S if rig.wire.mute else ALERT_S
    for _ in range(round(patience_s / _LOOK_S)):
        if holds():
            rig.wire.mute = False
            return True
        rig.advance(_LOOK_S)
    rig.wire.mute = not rig.alerts()
    return holds()


def _is_from(alert: dict[str, Any], port: int) -> bool:
    return alert.get("src_port") == port
