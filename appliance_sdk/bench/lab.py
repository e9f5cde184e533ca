"""Where measurements are made: network, generator and contestants, and the order of the runs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

from appliance_sdk.bench.compiled import build
from appliance_sdk.bench.contestants import Appliance, Contestant, Hairpin, Program
from appliance_sdk.bench.figures import Result, Row, Series, Target
from appliance_sdk.bench.generator import Generator, Sending, Sent
from appliance_sdk.bench.load import Load
from appliance_sdk.bench.machine import share_cores
from appliance_sdk.bench.network import Network
from appliance_sdk.errors import HarnessError
from appliance_sdk.harness.scratch import scratch_folder

C_LOOP = "C loop"
WINDOW = 512
"""Packets under way at saturation: always a full batch, never a full buffer."""
_EPOCHS = 4095


class Pace(NamedTuple):
    """How long everything takes."""

    seconds: float
    """One run of one contestant at saturation."""
    repeats: int
    """Such runs of each contestant, in turn with the others."""
    steady_s: float
    """One run at a steady rate."""
    steady_repeats: int
    """Such runs, and those of whatever else is repeated."""
    steps: int
    """Halvings in the search for the highest rate without loss."""
    flood_s: float
    many_flows: int
    judged: int
    """Packets that the engine alone judges in one run."""
    packets: int
    """Round trips of the local load balancer in one run."""
    hours: float
    """Of its clock, in one run."""
    days: int
    """Such runs, which may take their time."""
    thorough: bool
    """What has no goal and takes its time is measured as well."""


QUICK = Pace(0.15, 12, 0.3, 3, 2, 3.0, 150_000, 8_000, 10_000, 0.25, 8, False)
FULL = Pace(0.3, 30, 1.0, 7, 5, 10.0, 1_000_000, 32_000, 30_000, 24.0, 2, True)


class Entry(NamedTuple):
    """A contestant, and the load that it is measured with."""

    name: str
    contestant: Contestant
    load: Load


class Tally:
    """Every reply of the whole benchmark."""

    def __init__(self) -> None:
        self.answered = 0
        self.whole = 0
        self.wrong = 0
        self.unread = 0
        self.first_wrong = ""

    def add(self, name: str, sent: Sent) -> None:
        """Count what one run brought."""
        self.answered += sent.opened + sent.answered
        self.whole += sent.whole
        self.unread += sent.unread
        wrong = sent.wrong + sent.repeated
        if wrong and not self.wrong:
            first = str(sent.first_wrong) if sent.first_wrong else "a reply came twice"
            self.first_wrong = f"{name}: {first}"
        self.wrong += wrong

    def result(self) -> Result:
        """What the checker says in the end."""
        checked = self.answered + self.wrong
        rows = [
            Row("replies checked", {"count": Series("", (float(checked),))}),
            Row("compared byte for byte", {"count": Series("", (float(self.whole),))}),
            Row("wrong", {"count": Series("", (float(self.wrong),))}, self.first_wrong),
        ]
        notes = []
        if self.unread:
            notes.append(f"{self.unread:,} replies came faster than the generator could take them")
        target = Target("wrong replies", "", 0, False, self.wrong)
        return Result("checker", "What came back", rows, [target], notes)


class Lab:
    """Makes what a scenario asks for, and removes it again."""

    def __init__(
        self,
        pace: Pace,
        *,
        compiled: bool | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`compiled`: the generator, see `Generator`; `say` is told what is going on."""
        self.pace = pace
        self.topic = ""
        """What all that is said now is about."""
        self.tally = Tally()
        self.cores = share_cores()
        self.missing: dict[str, str] = {}
        """Contestants that cannot be had here, with the reason."""
        self._compiled = compiled
        self._say = say
        self._exit = contextlib.ExitStack()
        self._network: Network | None = None
        self._generator: Generator | None = None
        self._numbers = 0
        self._epoch = 0

    def __enter__(self) -> Self:
        self.folder = self._exit.enter_context(scratch_folder("bench-"))
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def say(self, text: str) -> None:
        """Tell whoever waits what is going on."""
        self._say(f"{self.topic}{text}")

    @property
    def network(self) -> Network:
        """The two namespaces, made when they are first asked for. Raises HarnessError."""
        if self._network is None:
            usable = os.sched_getaffinity(0)
            self._network = self._exit.enter_context(Network())
            if not self.cores.shared:  # we ask for health, which must cost the appliances nothing
                self._exit.callback(os.sched_setaffinity, 0, usable)
                os.sched_setaffinity(0, self.cores.gwlb)
        return self._network

    @property
    def generator(self) -> Generator:
        """Sends and checks. Raises HarnessError if it cannot be built as demanded."""
        if self._generator is None:
            self._generator = Generator(self.folder, self.cores.gwlb, compiled=self._compiled)
        return self._generator

    def naive(self) -> Program:
        """The naive loop."""
        return self.program("naive loop", "-m", "appliance_sdk.bench.naive")

    def program(self, name: str, *arguments: str) -> Program:
        """A Python program that takes its address as its last argument."""
        return self._program(name, sys.executable, *arguments)

    def c_loop(self) -> Program | None:
        """The C loop; None where there is no compiler, and `missing` says why."""
        try:
            program = build(self.folder, "loop")
        except HarnessError as error:
            self.missing[C_LOOP] = str(error)
            return None
        return self._program(C_LOOP, str(program))

    def hairpin(self) -> Hairpin | None:
        """The bare XDP hairpin; None where BPF cannot be had, and `missing` says why."""
        try:
            return Hairpin(self.network, self._new_address())
        except HarnessError as error:
            self.missing["bare XDP hairpin"] = str(error)
            return None

    def appliance(
        self,
        name: str,
        *enable: str,
        workers: int = 1,
        raw: bool = True,
        engine: Mapping[str, float] | None = None,
    ) -> Appliance:
        """An appliance with plugins of `bench.plugins`."""
        cores = self.cores.of(workers)
        return Appliance(
            name,
            self.network,
            self._new_address(),
            cores,
            self.folder,
            enable=enable,
            workers=workers,
            raw=raw,
            engine=engine,
        )

    @contextlib.contextmanager
    def usual_priority(self) -> Iterator[None]:
        """What is started meanwhile is preferred to nobody."""
        self.network.preferring = False
        try:
            yield
        finally:
            self.network.preferring = True

    @contextlib.contextmanager
    def started(self, *contestants: Contestant) -> Iterator[None]:
        """All of them run; ended and waited for whatever happens."""
        try:
            for contestant in contestants:
                contestant.start()
            for contestant in contestants:
                self.say(f"starting: {contestant.name}")
                contestant.ready()
            yield
        finally:
            for contestant in contestants:
                contestant.stop()

    def send(self, entry: Entry, **changes: float) -> Sent:
        """One run: the entry's load with these changes."""
        load = entry.load._replace(**changes)  # type: ignore[arg-type]
        if load.tcp or not load.flows:  # connections begin anew, flows are to be new ones
            self._epoch = self._epoch % _EPOCHS + 1
            load = load._replace(epoch=self._epoch)
        with entry.contestant.turn():
            sent = self.start(entry.contestant, load).finish()
        self.tally.add(entry.name, sent)
        return sent

    def start(self, contestant: Contestant, load: Load) -> Sending:
        """A load that is under way when this returns; finish it, and tell the tally."""
        cores = self.cores.of(contestant.workers)
        return self.generator.start(
            self.network,
            contestant.address,
            load,
            pids=contestant.pids(),
            cores=cores,
            polite=self.cores.shared,
        )

    def saturate(self, entries: Sequence[Entry], repeats: int = 0) -> dict[str, list[Sent]]:
        """As many packets as each can take: A B C, A B C, ... so that noise hits all alike.

        Many short runs rather than a few long ones: a neighbour on the same processor disturbs for
        seconds at a time, and what counts are the runs that were disturbed least. `repeats`: less
        often than the pace says, where nothing is judged by it.
        """
        runs: dict[str, list[Sent]] = defaultdict(list)
        repeats = repeats or self.pace.repeats
        for number in range(repeats):
            for entry in entries:
                self.say(f"{entry.name}: saturation, run {number + 1} of {repeats}")
                sent = self.send(entry, window=WINDOW, seconds=self.pace.seconds)
                runs[entry.name].append(sent)
        return runs

    def steady(self, entries: Sequence[Entry], rates: Mapping[str, float]) -> dict[str, list[Sent]]:
        """So many packets a second to each, in turn."""
        runs: dict[str, list[Sent]] = {entry.name: [] for entry in entries}
        repeats = self.pace.steady_repeats
        for number in range(repeats):
            for entry in entries:
                rate = rates[entry.name]
                self.say(f"{entry.name}: {rate:,.0f} packets/s, run {number + 1} of {repeats}")
                runs[entry.name].append(self.send(entry, rate=rate, seconds=self.pace.steady_s))
        return runs

    def search(self, entries: Sequence[Entry], peaks: dict[str, float]) -> dict[str, float]:
        """The highest rate of each at which every packet came back, by halving; 0 if there is none.

        Beginning at `peaks`, what each can take at most.
        """
        found = dict.fromkeys(peaks, 0.0)
        least = dict.fromkeys(peaks, 0.0)
        most = {name: peak * 1.1 for name, peak in peaks.items()}
        for step in range(self.pace.steps):
            for entry in entries:
                name = entry.name
                rate = (
                    (least[name] + 2 * most[name]) / 3
                    if step == 0
                    else (least[name] + most[name]) / 2
                )
                self.say(f"{name}: {rate:,.0f} packets/s, is one lost?")
                sent = self.send(entry, rate=rate, burst=16, seconds=self.pace.steady_s)
                if sent.lost or sent.wrong:
                    most[name] = rate
                else:
                    least[name] = rate
                    found[name] = sent.sent / sent.seconds
        return found

    def _program(self, name: str, *command: str) -> Program:
        address = self._new_address()
        log = self.folder / f"{address}.log"
        return Program(name, self.network, address, self.cores.of(1), [*command, address], log)

    def _new_address(self) -> str:
        self._numbers += 1
        address = f"10.200.1.{self._numbers}"
        self.network.add_address(address)
        return address
