"""Which worker takes a datagram: by the packet inside, so that both directions meet in one.

The kernel runs the program for each datagram of a group of sockets that share a port
(SO_ATTACH_REUSEPORT_CBPF, see socket(7)), on the UDP payload. Of the inner packet it reads what
makes its flow: addresses, and ports where there are any. ICMP errors go where the flow goes that
they quote. Fragments go by addresses alone, all of a datagram to one worker, which knows from the
first one whose they are. What cannot be read goes to worker 0.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence

from appliance_sdk.dataplane import cbpf
from appliance_sdk.dataplane.cbpf import Instruction, Program
from appliance_sdk.wire.packet import ICMP, ICMPV6, TCP, UDP

_SO_ATTACH_REUSEPORT_CBPF = 51
_EXTENSIONS = 16
"""One more than the engine reads."""
_PLAIN_EXTENSIONS = (0, 43, 60, 135, 139, 140)
_FRAGMENT = 44
_ICMP_ERRORS = (3, 4, 5, 11, 12)
_ICMPV6_ERRORS = (1, 2, 3, 4)

# Words of the program's memory.
_SOURCE, _DESTINATION, _SUM, _XOR, _PROTOCOL, _HASH, _INNER, _SPARE = range(8)


def selector(workers: int, seed: int) -> list[Instruction]:
    """The program that answers with a worker's number, from 0.

    `seed` chooses its multipliers: drawn anew at each start, nobody outside can tell which packets
    meet in one worker.
    """
    odd = random.Random(seed)
    return _Selector(workers, [odd.getrandbits(32) | 1 for _ in range(6)]).program()


def attach_selector(listener: socket.socket, program: Sequence[Instruction]) -> None:
    """Have the group that this socket is of choose by the program. Raises OSError."""
    cbpf.attach(listener, program, _SO_ATTACH_REUSEPORT_CBPF)


class _Selector:
    def __init__(self, workers: int, odd: Sequence[int]) -> None:
        self._workers = workers
        self._odd = odd
        self._p = Program()

    def program(self) -> list[Instruction]:
        p = self._p
        for word in range(8):
            p.add(cbpf.ST, word)  # the kernel wants each word written before it is read
        p.add(cbpf.LD_B_ABS, 0)  # Opt Len, in words (RFC 8926 §3.4)
        p.add(cbpf.AND_K, 0x3F)
        p.add(cbpf.LSH_K, 2)
        p.add(cbpf.ADD_K, 8)
        p.add(cbpf.TAX)
        self._packet("inner", quoted=False)
        self._packet("quoted", quoted=True)
        p.label("ports")
        p.add(cbpf.LD_H_IND, 0)
        p.add(cbpf.ST, _SPARE)
        p.add(cbpf.LD_H_IND, 2)
        p.add(cbpf.LDX_MEM, _SPARE)
        self._both_ways(2)
        p.label("mix")
        self._mix()
        p.label("unreadable")
        p.add(cbpf.RET_K, 0)
        return p.assemble()

    def _packet(self, name: str, *, quoted: bool) -> None:
        """An IP packet that begins at X."""
        p = self._p
        p.label(name)
        p.add(cbpf.STX, _INNER)
        p.add(cbpf.LD_B_IND, 0)
        p.add(cbpf.RSH_K, 4)
        p.jump(cbpf.JEQ, 4, f"{name}4")
        p.jump(cbpf.JEQ, 6, f"{name}6", "unreadable")
        self._ipv4(name, quoted)
        self._ipv6(name, quoted)

    def _ipv4(self, name: str, quoted: bool) -> None:
        p = self._p
        p.label(f"{name}4")
        p.add(cbpf.LD_W_IND, 12)
        p.add(cbpf.ST, _SOURCE)
        p.add(cbpf.LD_W_IND, 16)
        self._addresses()
        p.add(cbpf.LD_B_IND, 9)
        p.add(cbpf.ST, _PROTOCOL)
        p.add(cbpf.LD_H_IND, 6)
        # The whole of a fragmented packet goes by addresses; a quoted first part has its ports.
        p.jump(cbpf.JSET, 0x1FFF if quoted else 0x3FFF, "mix")
        p.add(cbpf.LD_B_IND, 0)
        p.add(cbpf.AND_K, 0x0F)
        p.add(cbpf.LSH_K, 2)
        p.add(cbpf.ADD_X)
        p.add(cbpf.TAX)
        p.add(cbpf.LD_MEM, _PROTOCOL)
        self._transport(ICMP, _ICMP_ERRORS, quoted)

    def _ipv6(self, name: str, quoted: bool) -> None:
        p = self._p
        p.label(f"{name}6")
        self._fold(8)
        p.add(cbpf.ST, _SOURCE)
        self._fold(24)
        self._addresses()
        p.add(cbpf.LD_B_IND, 6)
        p.add(cbpf.ST, _PROTOCOL)
        p.add(cbpf.TXA)
        p.add(cbpf.ADD_K, 40)
        p.add(cbpf.TAX)
        for number in range(_EXTENSIONS):
            self._extension(f"{name}{number}", f"{name}-transport", quoted)
        p.goto("mix")
        p.label(f"{name}-transport")
        self._transport(ICMPV6, _ICMPV6_ERRORS, quoted)

    def _extension(self, name: str, transport: str, quoted: bool) -> None:
        """One header of the chain at X (RFC 8200 §4), if it is one."""
        p = self._p
        p.add(cbpf.LD_MEM, _PROTOCOL)
        for protocol in _PLAIN_EXTENSIONS:
            p.jump(cbpf.JEQ, protocol, f"{name}-plain")
        p.jump(cbpf.JEQ, _FRAGMENT, f"{name}-fragment", transport)
        p.label(f"{name}-fragment")
        p.add(cbpf.LD_H_IND, 2)
        p.jump(cbpf.JSET, 0xFFF8 if quoted else 0xFFF9, "mix")
        p.add(cbpf.LD_B_IND, 0)
        p.add(cbpf.ST, _PROTOCOL)
        p.add(cbpf.LD_IMM, 8)
        p.goto(f"{name}-next")
        p.label(f"{name}-plain")
        p.add(cbpf.LD_B_IND, 0)
        p.add(cbpf.ST, _PROTOCOL)
        p.add(cbpf.LD_B_IND, 1)
        p.add(cbpf.ADD_K, 1)
        p.add(cbpf.LSH_K, 3)
        p.label(f"{name}-next")
        p.add(cbpf.ADD_X)
        p.add(cbpf.TAX)

    def _transport(self, icmp: int, errors: Sequence[int], quoted: bool) -> None:
        """A transport header at X, its protocol in A: ports, or the packet that an error quotes."""
        p = self._p
        p.jump(cbpf.JEQ, TCP, "ports")
        p.jump(cbpf.JEQ, UDP, "ports")
        if quoted:
            p.goto("mix")
            return
        error = f"error-{icmp}"
        p.jump(cbpf.JEQ, icmp, error, "mix")
        p.label(error)
        p.add(cbpf.LD_B_IND, 0)
        for kind in errors:
            p.jump(cbpf.JEQ, kind, f"{error}-quotes")
        p.goto("mix")
        p.label(f"{error}-quotes")
        p.add(cbpf.LD_IMM, 0)
        p.add(cbpf.ST, _HASH)
        p.add(cbpf.TXA)
        p.add(cbpf.ADD_K, 8)
        p.add(cbpf.TAX)
        p.goto("quoted")

    def _fold(self, at: int) -> None:
        """A = one word of an IPv6 address at X + `at`; the same for source and destination."""
        p = self._p
        p.add(cbpf.LD_W_IND, at)
        for word in (4, 8, 12):
            p.add(cbpf.MUL_K, self._odd[5])
            p.add(cbpf.ST, _SPARE)
            p.add(cbpf.LD_W_IND, at + word)
            p.add(cbpf.LDX_MEM, _SPARE)
            p.add(cbpf.XOR_X)
            p.add(cbpf.LDX_MEM, _INNER)

    def _addresses(self) -> None:
        """Hash source and destination (in A); X is the packet's beginning before and after."""
        self._p.add(cbpf.LDX_MEM, _SOURCE)
        self._both_ways(0)
        self._p.add(cbpf.LDX_MEM, _INNER)

    def _both_ways(self, odd: int) -> None:
        """Add to the hash what A and X are together, whichever of them comes first."""
        p = self._p
        p.add(cbpf.ST, _DESTINATION)
        p.add(cbpf.ADD_X)
        p.add(cbpf.MUL_K, self._odd[odd])
        p.add(cbpf.ST, _SUM)
        p.add(cbpf.LD_MEM, _DESTINATION)
        p.add(cbpf.XOR_X)
        p.add(cbpf.MUL_K, self._odd[odd + 1])
        p.add(cbpf.LDX_MEM, _SUM)
        p.add(cbpf.XOR_X)
        p.add(cbpf.LDX_MEM, _HASH)
        p.add(cbpf.ADD_X)
        p.add(cbpf.ST, _HASH)

    def _mix(self) -> None:
        """The high bits decide as well: multiply and fold, twice."""
        p = self._p
        p.add(cbpf.LD_MEM, _HASH)
        for _ in range(2):
            p.add(cbpf.ST, _HASH)
            p.add(cbpf.RSH_K, 15)
            p.add(cbpf.LDX_MEM, _HASH)
            p.add(cbpf.XOR_X)
            p.add(cbpf.MUL_K, self._odd[4])
        p.add(cbpf.RSH_K, 8)
        p.add(cbpf.MOD_K, self._workers)
        p.add(cbpf.RET_A)
