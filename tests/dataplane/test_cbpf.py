"""Classic BPF in Python: what it says must be what the kernel says."""

from __future__ import annotations

import random
import socket

import pytest

from appliance_sdk.dataplane import cbpf
from appliance_sdk.dataplane.cbpf import Instruction, Program, attach, run

_SO_ATTACH_FILTER = 26


def test_a_jump_leads_to_its_label_either_way() -> None:
    program = Program()
    program.add(cbpf.LD_B_ABS, 0)
    program.jump(cbpf.JEQ, 7, "seven")
    program.jump(cbpf.JSET, 0x80, "high", "low")
    program.label("seven")
    program.add(cbpf.RET_K, 1)
    program.label("high")
    program.add(cbpf.RET_K, 2)
    program.label("low")
    program.add(cbpf.RET_K, 3)
    code = program.assemble()
    assert [run(code, bytes([first]), 0, 1) for first in (7, 0x80, 1)] == [1, 2, 3]


def test_a_label_must_lie_ahead() -> None:
    program = Program()
    program.label("here")
    program.goto("here")
    with pytest.raises(ValueError, match="no label 'here' further down"):
        program.assemble()
    with pytest.raises(ValueError, match="two labels"):
        program.label("here")


def test_what_is_too_long_for_the_kernel_is_refused() -> None:
    program = Program()
    for _ in range(4097):
        program.add(cbpf.TAX)
    with pytest.raises(ValueError, match="4097 instructions"):
        program.assemble()


@pytest.mark.parametrize("code", [cbpf.LD_B_ABS, cbpf.LD_H_ABS, cbpf.LD_W_ABS])
def test_a_load_beyond_the_end_answers_nought(code: int) -> None:
    program = [Instruction(code, 0, 0, 3), Instruction(cbpf.RET_K, 0, 0, 9)]
    sizes = {cbpf.LD_B_ABS: 1, cbpf.LD_H_ABS: 2, cbpf.LD_W_ABS: 4}
    size = 3 + sizes[code]
    assert run(program, bytes(size), 0, size) == 9
    assert run(program, bytes(size), 0, size - 1) == 0
    assert run(program, b"abc" + bytes(size), 3, size + 3) == 9


def test_the_kernel_calculates_the_same() -> None:
    """A socket filter answers how many bytes to keep: so the kernel's A can be read."""
    chance = random.Random(5)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        for _ in range(300):
            code = _arithmetic(chance)
            payload = chance.randbytes(64)
            attach(receiver, code, _SO_ATTACH_FILTER)
            sender.sendto(payload, receiver.getsockname())
            # A filter sees the UDP header, too, and what it keeps counts from there.
            kept = len(receiver.recv(100)) + 8
            assert kept == run(code, bytes(8) + payload, 0, 72)


def _arithmetic(chance: random.Random) -> list[Instruction]:
    """Random calculation; its end brings the result to between 9 and 72."""
    program = Program()
    loads = (cbpf.LD_W_IND, cbpf.LD_H_IND, cbpf.LD_B_IND, cbpf.LD_W_ABS, cbpf.LD_H_ABS)
    other = (cbpf.ADD_X, cbpf.XOR_X, cbpf.TXA)
    with_number = (cbpf.ADD_K, cbpf.MUL_K, cbpf.AND_K)
    program.add(cbpf.LDX_IMM, chance.randrange(8, 20))
    program.add(cbpf.LD_IMM, chance.getrandbits(32))
    program.add(cbpf.ST, 3)
    for _ in range(20):
        match chance.randrange(5):
            case 0:
                program.add(chance.choice(loads), chance.randrange(8, 40))
            case 1:
                program.add(chance.choice(other))
            case 2:
                program.add(chance.choice(with_number), chance.getrandbits(32))
            case 3:
                program.add(chance.choice((cbpf.LSH_K, cbpf.RSH_K)), chance.randrange(32))
            case 4:
                program.add(cbpf.ST, 3)
                program.add(cbpf.LD_MEM, 3)
    program.add(cbpf.MOD_K, 64)
    program.add(cbpf.ADD_K, 9)
    program.add(cbpf.RET_A)
    return program.assemble()
