"""Classic BPF: programs written with labels, attached to sockets, and run in Python as well.

The machine is that of "The BSD Packet Filter" (McCanne, Jacobson 1993) as in linux/filter.h: an
accumulator A, an index X, sixteen words of memory, jumps forward only. A load beyond the packet's
end ends the program with 0.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from appliance_sdk.wire.buffer import Buffer

LD_W_ABS, LD_H_ABS, LD_B_ABS = 0x20, 0x28, 0x30
LD_W_IND, LD_H_IND, LD_B_IND = 0x40, 0x48, 0x50
LD_IMM, LD_MEM, LDX_IMM, LDX_MEM, ST, STX = 0x00, 0x60, 0x01, 0x61, 0x02, 0x03
ADD_K, ADD_X, MUL_K, AND_K, LSH_K, RSH_K, MOD_K, XOR_X = (
    0x04,
    0x0C,
    0x24,
    0x54,
    0x64,
    0x74,
    0x94,
    0xAC,
)
JA, JEQ, JSET = 0x05, 0x15, 0x45
RET_K, RET_A, TAX, TXA = 0x06, 0x16, 0x07, 0x87

_INSTRUCTION = struct.Struct("@HBBI")
_MOST = 4096
_MASK = 0xFFFFFFFF


class Instruction(NamedTuple):
    """One instruction: operation, jump offsets if true and if false, operand."""

    code: int
    jt: int
    jf: int
    k: int


class Program:
    """Instructions in order; `jump` names labels, which `label` puts further down."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, str, int]] = []
        self._labels: dict[str, int] = {}

    def add(self, code: int, k: int = 0) -> None:
        """One instruction that is no jump."""
        self._lines.append((code, "", k & _MASK))

    def goto(self, label: str) -> None:
        """Go on at a label."""
        self._lines.append((JA, label, 0))

    def jump(self, code: int, k: int, then: str, otherwise: str = "") -> None:
        """Compare A with k: go on at `then`, else at `otherwise` or with the next instruction."""
        # Offsets of comparisons have eight bits, those of `ja` thirty-two: one is skipped or not.
        self._lines.append((code, "", k & _MASK))
        self._lines.append((JA, then, 0))
        if otherwise:
            self._lines.append((JA, otherwise, 0))

    def label(self, name: str) -> None:
        """Here is where jumps to this label go on."""
        if name in self._labels:
            raise ValueError(f"two labels {name!r}")
        self._labels[name] = len(self._lines)

    def assemble(self) -> list[Instruction]:
        """The program. Raises ValueError for a label that is missing or lies behind."""
        made = []
        for at, (code, target, k) in enumerate(self._lines):
            if code == JA:
                distance = self._labels.get(target, -1) - at - 1
                if distance < 0:
                    raise ValueError(f"no label {target!r} further down")
                made.append(Instruction(JA, 0, 0, distance))
            else:
                made.append(Instruction(code, 0, int(code in (JEQ, JSET)), k))
        if len(made) > _MOST:
            raise ValueError(f"{len(made)} instructions are more than {_MOST}")
        return made


def attach(sock: socket.socket, program: Sequence[Instruction], option: int) -> None:
    """Attach a program with one of the SO_ATTACH options. Raises OSError."""
    code = b"".join(_INSTRUCTION.pack(*one) for one in program)
    memory = ctypes.create_string_buffer(code, len(code))
    value = struct.pack("@HP", len(program), ctypes.addressof(memory))
    sock.setsockopt(socket.SOL_SOCKET, option, value)


def run(program: Sequence[Instruction], packet: Buffer, start: int, end: int) -> int:
    """What the kernel's program answers for the bytes from `start` to `end`."""
    a = x = at = 0
    memory = [0] * 16
    while True:
        code, jt, jf, k = program[at]
        at += 1
        if code in _LOADS:
            size, indexed = _LOADS[code]
            place = start + k + (x if indexed else 0)
            if place + size > end:
                return 0
            a = int.from_bytes(packet[place : place + size], "big")
        elif code == JA:
            at += k
        elif code == JEQ:
            at += jt if a == k else jf
        elif code == JSET:
            at += jt if a & k else jf
        elif code == RET_K:
            return k
        elif code == RET_A:
            return a
        elif code == LD_IMM:
            a = k
        elif code == LD_MEM:
            a = memory[k]
        elif code == LDX_IMM:
            x = k
        elif code == LDX_MEM:
            x = memory[k]
        elif code == ST:
            memory[k] = a
        elif code == STX:
            memory[k] = x
        elif code == TAX:
            x = a
        elif code == TXA:
            a = x
        else:
            a = _calculate(code, a, x, k)


_LOADS = {
    LD_W_ABS: (4, False),
    LD_H_ABS: (2, False),
    LD_B_ABS: (1, False),
    LD_W_IND: (4, True),
    LD_H_IND: (2, True),
    LD_B_IND: (1, True),
}


def _calculate(code: int, a: int, x: int, k: int) -> int:
    match code:
        case 0x04:
            return a + k & _MASK
        case 0x0C:
            return a + x & _MASK
        case 0x24:
            return a * k & _MASK
        case 0x54:
            return a & k
        case 0x64:
            return a << k & _MASK
        case 0x74:
            return a >> k
        case 0x94:
            return a % k
        case 0xAC:
            return a ^ x
    raise ValueError(f"no such instruction: {code:#x}")
