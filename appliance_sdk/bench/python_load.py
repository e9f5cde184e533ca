"""The load balancer's side without a compiler: arguments and answer are those of helper/load.c.

It is slower than what it measures, so its rates are its own; what it checks is the same.
"""

from __future__ import annotations

import argparse
import socket
import time
from collections import Counter
from contextlib import suppress

import msgspec

from appliance_sdk.bench.frames import GENEVE_AT, HANDSHAKE, INNER, MARK_BYTES, Frames
from appliance_sdk.bench.generator import FirstWrong, Latency, Sent
from appliance_sdk.bench.load import Load
from appliance_sdk.bench.processors import Processors
from appliance_sdk.wire.checksum import checksum, transport_checksum
from appliance_sdk.wire.packet import ACK, SYN, UDP

_ETH_P_IP = 0x0800
_PATIENCE_S = 1.0
_OPEN_WINDOW = 64
_BUFFER_BYTES = 64 << 20
_SO_RCVBUFFORCE = 33
_OUTGOING = 4  # PACKET_OUTGOING
_ALL = 1 << 62


class Checker:
    """Says of each reply whether it is what GWLB must get back for one of the frames sent."""

    def __init__(self, frames: Frames, whole_every: int) -> None:
        self._frames = frames
        self._whole_every = whole_every
        self.times: dict[int, int] = {}
        """When each frame was sent."""
        self.seen: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.first_wrong: FirstWrong | None = None
        self._newest: dict[int, int] = {}

    def check(self, frame: bytes) -> int:
        """Take a reply: the number of the frame it answers, -1 if it is wrong or a repetition."""
        if len(frame) < INNER or frame[23] != UDP:
            self.counts["other"] += 1
            return -1
        number = self._number(frame)
        if number not in self.times:
            return self._wrong(number, -2)
        marked = len(frame) >= self._frames.mark_at + MARK_BYTES
        mark = frame[self._frames.mark_at + 8 :][:8]
        whole = number % self._whole_every == 0
        then = self.times[number] if whole else int.from_bytes(mark, "big") if marked else 0
        wanted = bytearray(self._frames.reply(number, then, frame[6:12]))
        if len(frame) != len(wanted):
            return self._wrong(number, -1)
        if not _adopt_freedoms(frame, wanted):
            return self._wrong(number, 40)
        end = len(frame) if whole or not marked else self._frames.mark_at + MARK_BYTES
        if frame[14:end] != wanted[14:end]:
            ways = [*range(GENEVE_AT, end), *range(14, GENEVE_AT)]
            at = next(at for at in ways if frame[at] != wanted[at])
            return self._wrong(number, at, frame[at], wanted[at])
        if number in self.seen:
            self.counts["repeated"] += 1
            return -1
        self.seen.add(number)
        self.counts["answered"] += 1
        self.counts["whole"] += whole
        flow, _ = self._frames.place(number)
        self.counts["reordered"] += number < self._newest.get(flow, -1)
        self._newest[flow] = max(number, self._newest.get(flow, -1))
        return number

    def _number(self, frame: bytes) -> int:
        """Of the frame that is answered: as it says, or, in a handshake, by cookie and flags."""
        at = self._frames.mark_at
        load = self._frames.load
        if len(frame) >= at + MARK_BYTES:
            return int.from_bytes(frame[at : at + 8], "big")
        if not load.tcp or len(frame) < at:
            return -1
        flow = (int.from_bytes(frame[78:82], "big") ^ load.epoch << 26) & 0x3FFFFFF
        turn = {SYN: 0, SYN | ACK: 1}.get(frame[at - 7], HANDSHAKE - 1)
        return turn * load.flows + flow

    def _wrong(self, number: int, at: int, is_: int = 0, wanted: int = 0) -> int:
        self.counts["wrong"] += 1
        if self.first_wrong is None:
            self.first_wrong = FirstWrong(number, at, is_, wanted)
        return -1


def _adopt_freedoms(frame: bytes, wanted: bytearray) -> bool:
    """Take over what an appliance may choose: identification, TTL, UDP checksum if it is right."""
    wanted[18:20] = frame[18:20]
    wanted[20] = frame[20] & 0x40
    wanted[22] = frame[22] or 1
    wanted[24:26] = b"\0\0"
    wanted[24:26] = checksum(bytes(wanted[14:34])).to_bytes(2, "big")
    wanted[40:42] = frame[40:42]
    if not any(frame[40:42]):
        return True
    # The kernel leaves the checksum to the device, and there is none: the sum of the addresses.
    pseudo = frame[26:34] + bytes((0, UDP)) + frame[38:40]
    left = 0xFFFF - checksum(pseudo)
    return (
        int.from_bytes(frame[40:42], "big") == left
        or transport_checksum(frame[26:30], frame[30:34], UDP, frame[34:]) == 0
    )


class Generator:
    """Sends frames at a rate, or as replies come, and checks every reply."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._load = load = _load(options)
        self._frames = Frames(load, options.appliance)
        self.checker = Checker(self._frames, load.whole_every)
        self.sent = self.held = 0
        self._given_up = 0
        self._moved = 0.0
        self.latencies: list[int] = []
        self._out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._out.bind((options.device, 0))
        self._in = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IP))
        self._in.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._in.bind((options.device, _ETH_P_IP))
        self._in.setblocking(False)

    def run(self, rate: float, window: int, seconds: float, packets: int) -> float:
        """Send until `seconds` are over or `packets` are out: how long it took."""
        begin = now = self._moved = time.monotonic()
        first, self.held = self.sent, 0
        while now - begin < seconds and self.sent - first < packets:
            self._take(64)
            now = time.monotonic()
            if window and self._under_way(now) >= window:
                self.held += 1
            elif not rate or rate * (now - begin) > self.sent - first:
                self._send()
            else:
                time.sleep(50e-6)
        return now - begin

    def settle(self) -> None:
        """Wait until nothing is under way."""
        self._moved = time.monotonic()
        self._given_up = 0
        while self._under_way(time.monotonic()):
            if not self._take(64):
                time.sleep(50e-6)

    def close(self) -> None:
        self._out.close()
        self._in.close()

    def _send(self) -> None:
        now = time.time_ns()
        self.checker.times[self.sent] = now
        with suppress(OSError):  # no room: then it is lost, which the count will show
            self._out.send(self._frames.frame(self.sent, now))
        self.sent += 1

    def _take(self, most: int) -> int:
        for count in range(most):
            try:
                frame, address = self._in.recvfrom(65536)
            except BlockingIOError:
                return count
            if address[2] == _OUTGOING:
                continue
            number = self.checker.check(frame)
            if number >= 0:
                self.latencies.append(time.time_ns() - self.checker.times[number])
            self._moved = time.monotonic()
        return most

    def _under_way(self, now: float) -> int:
        counts = self.checker.counts
        missing = max(self.sent - counts["answered"] - counts["wrong"], 0)
        if missing and now - self._moved > _PATIENCE_S:
            self._given_up = missing
            self._moved = now
        self._given_up = min(self._given_up, missing)  # some came after all
        return missing - self._given_up


def main() -> None:
    """The program."""
    options = _parser().parse_args()
    load = _load(options)
    generator = Generator(options)
    counts = generator.checker.counts
    if load.open_rounds and load.flows:
        generator.run(0, _OPEN_WINDOW, 600, load.open_rounds * load.flows)
        generator.settle()
    opened, first = counts["answered"], generator.sent
    generator.latencies.clear()
    processors = Processors(options.pid, options.cpu)
    seconds = generator.run(load.rate, load.window, load.seconds, load.packets or _ALL)
    in_time, used = counts["answered"] - opened, processors.used()
    generator.settle()
    generator.close()
    answer = Sent(
        opened=opened,
        sent=generator.sent - first,
        answered=counts["answered"] - opened,
        answered_in_time=in_time,
        seconds=seconds,
        wrong=counts["wrong"],
        repeated=counts["repeated"],
        reordered=counts["reordered"],
        other=counts["other"],
        whole=counts["whole"],
        unread=0,
        refused=0,
        held=generator.held,
        process_s=used.process_s,
        busy_s=used.busy_s,
        softirq_s=used.softirq_s,
        latency_us=_latency(sorted(generator.latencies)),
        first_wrong=generator.checker.first_wrong,
    )
    print(msgspec.json.encode(answer).decode())


def _latency(ordered: list[int]) -> Latency:
    def within(share: float) -> float:
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] / 1e3 if ordered else 0.0

    return Latency(within(0.5), within(0.99), within(0.999), within(1))


def _load(options: argparse.Namespace) -> Load:
    return Load(
        flows=options.flows,
        size=options.size,
        tcp=options.tcp,
        ipv6=options.ipv6,
        one_way=options.one_way,
        epoch=options.epoch,
        open_rounds=options.open,
        rate=options.rate,
        window=options.window,
        seconds=options.seconds,
        packets=options.packets,
        whole_every=options.whole,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    for name in ("device", "node", "node-mac", "appliance", "appliance-mac"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("flows", "size", "epoch", "open", "window", "burst", "packets", "whole"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("rate", "seconds"):
        parser.add_argument(f"--{name}", type=float, required=True)
    for name in ("tcp", "ipv6", "one-way", "polite"):
        parser.add_argument(f"--{name}", action="store_true")
    for name in ("pid", "cpu"):
        parser.add_argument(f"--{name}", type=int, action="append", default=[])
    return parser


if __name__ == "__main__":
    main()
