"""Just enough of bpf(2): instructions by hand, loaded and attached without a compiler or libbpf.

Opcodes are those of RFC 9669.
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
from typing import NamedTuple

from appliance_sdk.errors import HarnessError

_SYSCALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_PROG_LOAD, _LINK_CREATE = 5, 28
_PROG_TYPE_XDP, _ATTACH_XDP = 6, 37
_GENERIC = 2  # XDP_FLAGS_SKB_MODE: any device, behind the driver
_NATIVE = 4  # XDP_FLAGS_DRV_MODE
_FRAGMENTS = 1 << 5  # BPF_F_XDP_HAS_FRAGS
_ATTRIBUTES = 144
_LOG_BYTES = 1 << 16

LOAD = {1: 0x71, 2: 0x69, 4: 0x61}
"""dst = *(u8, u16 or u32 *)(src + offset)."""
STORE = {1: 0x73, 2: 0x6B, 4: 0x63}
"""*(u8, u16 or u32 *)(dst + offset) = src."""
MOVE, MOVE_TO, ADD_TO = 0xBF, 0xB7, 0x07
JUMP_GREATER, JUMP_OTHER = 0x2D, 0x56
"""If dst > src; if the lower 32 bits of dst are not what is given."""
EXIT = 0x95


class Instruction(NamedTuple):
    """One instruction: registers by their numbers, jumps counted in instructions."""

    code: int
    dst: int = 0
    src: int = 0
    offset: int = 0
    given: int = 0

    def encode(self) -> bytes:
        """As the kernel takes it."""
        return struct.pack(
            "=BBhI", self.code, self.dst | self.src << 4, self.offset, self.given & 0xFFFFFFFF
        )


def load_xdp(instructions: list[Instruction], *, fragments: bool = False) -> int:
    """Hand a program to the kernel: a descriptor. Raises HarnessError with what it objects to.

    `fragments`: it gets along with packets in several pieces, as those of a large MTU are.
    """
    code = b"".join(instruction.encode() for instruction in instructions)
    program = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    log = ctypes.create_string_buffer(_LOG_BYTES)
    attributes = struct.pack(
        "=IIQQIIQII",
        _PROG_TYPE_XDP,
        len(instructions),
        ctypes.addressof(program),
        ctypes.addressof(licence),
        1,
        _LOG_BYTES,
        ctypes.addressof(log),
        0,
        _FRAGMENTS if fragments else 0,
    )
    try:
        return _bpf(_PROG_LOAD, attributes)
    except OSError as error:
        said = log.value.decode("ascii", "replace").strip().splitlines()
        raise HarnessError(f"BPF: {error.strerror}{': ' + said[-1] if said else ''}") from error


def attach_xdp(program: int, device: str, *, native: bool = False) -> int:
    """Attach a program to a device of this namespace for as long as the descriptor is open.

    `native`: in the device's driver, if it can. Raises HarnessError.
    """
    flags = _NATIVE if native else _GENERIC
    attributes = struct.pack("=IIII", program, socket.if_nametoindex(device), _ATTACH_XDP, flags)
    try:
        return _bpf(_LINK_CREATE, attributes)
    except OSError as error:
        raise HarnessError(f"XDP on {device}: {error.strerror}") from error


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        raise HarnessError(f"BPF: the system call's number on {platform.machine()} is not known")
    memory = ctypes.create_string_buffer(attributes, _ATTRIBUTES)
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    result = int(syscall(number, command, ctypes.byref(memory), _ATTRIBUTES))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
