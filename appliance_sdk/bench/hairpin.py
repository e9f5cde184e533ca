"""The other end of the scale: an XDP program that sends every GENEVE packet back, unseen."""

from __future__ import annotations

import socket
import sys

from appliance_sdk.bench.ebpf import (
    ADD_TO,
    EXIT,
    JUMP_GREATER,
    JUMP_OTHER,
    LOAD,
    MOVE,
    MOVE_TO,
    STORE,
    Instruction,
)
from appliance_sdk.wire.geneve import PORT

_PASS, _TX = 2, 3
_HEADERS = 42  # Ethernet, IPv4 without options, UDP
_PACKET, _END, _A, _B, _RESULT = 2, 3, 4, 5, 0


def hairpin(address: str) -> list[Instruction]:
    """For packets to this address, UDP 6081: swap MAC and IPv4 addresses, and back they go.

    Neither checksum changes by that. Everything else goes its usual way.
    """
    code = [
        Instruction(LOAD[4], _PACKET, 1, 0),
        Instruction(LOAD[4], _END, 1, 4),
        Instruction(MOVE, _A, _PACKET),
        Instruction(ADD_TO, _A, given=_HEADERS),
        Instruction(JUMP_GREATER, _A, _END),
    ]
    for size, at, wanted in (
        (2, 12, b"\x08\x00"),
        (1, 14, b"\x45"),
        (1, 23, b"\x11"),
        (2, 36, PORT.to_bytes(2, "big")),
        (4, 30, socket.inet_aton(address)),
    ):
        code.append(Instruction(LOAD[size], _A, _PACKET, at))
        code.append(Instruction(JUMP_OTHER, _A, given=int.from_bytes(wanted, sys.byteorder)))
    for size, at, other in ((4, 0, 6), (2, 4, 10), (4, 26, 30)):
        code += [
            Instruction(LOAD[size], _A, _PACKET, at),
            Instruction(LOAD[size], _B, _PACKET, other),
            Instruction(STORE[size], _PACKET, _B, at),
            Instruction(STORE[size], _PACKET, _A, other),
        ]
    code += [Instruction(MOVE_TO, _RESULT, given=_TX), Instruction(EXIT)]
    away = len(code)
    code = [
        one._replace(offset=away - at - 1) if one.code in (JUMP_GREATER, JUMP_OTHER) else one
        for at, one in enumerate(code)
    ]
    return [*code, Instruction(MOVE_TO, _RESULT, given=_PASS), Instruction(EXIT)]
