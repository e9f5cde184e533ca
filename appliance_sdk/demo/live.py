"""The demo as a live picture in the terminal: the path, every target, and the load."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from appliance_sdk.demo.show import Check

if TYPE_CHECKING:
    from appliance_sdk.demo.stage import Stage

_REFRESH_S = 0.125
_COLOURS = {
    "healthy": "green",
    "unhealthy": "red",
    "initial": "yellow",
    "draining": "cyan",
    "unused": "bright_black",
}
_PATH = (
    ("client", "203.0.113.10"),
    ("igw", "edge routes"),
    ("gwlbe-fw", "firewalls"),
    ("gwlbe-ids", "IPS"),
    ("alb", "10.0.1.10"),
    ("web-1 web-2", "instances"),
)


class LiveShow:
    """Draws itself again eight times a second; what is said scrolls by above the picture."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._stage: Stage | None = None
        self._title = ""
        self._said: deque[str] = deque(maxlen=1)
        self._next = 0.0
        self._flows_seen = 1

    def attach(self, stage: Stage) -> None:
        """Show this stage from now on."""
        self._stage = stage
        self._live.start()

    def detach(self) -> None:
        """Give the terminal back."""
        self._live.stop()
        self._stage = None

    def scene(self, title: str, story: str) -> None:
        self._title = f"{title}: {story}"
        self._console.print(f"\n[bold]{title}[/bold]: {story}", highlight=False)
        self.refresh(at_once=True)

    def say(self, text: str) -> None:
        self._said.append(text)
        self.refresh(at_once=True)

    def walk(self, title: str, lines: list[str]) -> None:
        self._console.print(Text(f"  {title}", style="cyan"))
        for line in lines:
            self._console.print(Text(f"    {line}", overflow="fold"))

    def check(self, check: Check) -> None:
        line = Text("  ").append(_mark(check)).append(f" {check.claim}  ")
        self._console.print(line.append(check.evidence, "dim"))
        self.refresh(at_once=True)

    def refresh(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if self._stage is None or (now < self._next and not at_once):
            return
        self._next = now + _REFRESH_S
        self._live.update(self._picture(self._stage), refresh=True)

    def summary(self, checks: list[Check], facts: list[tuple[str, str]]) -> None:
        table = Table(title="\nWhat happened", title_justify="left", title_style="bold", box=None)
        table.add_column("")
        table.add_column("scene", style="cyan", no_wrap=True)
        table.add_column("claim")
        table.add_column("evidence", style="dim")
        last = ""
        for check in checks:
            scene = check.scene if check.scene != last else ""
            last = check.scene
            table.add_row(_mark(check), scene, check.claim, check.evidence)
        self._console.print(table)
        grid = Table.grid(padding=(0, 2))
        for name, value in facts:
            grid.add_row(Text(name, "bold"), value)
        self._console.print(grid)

    def _picture(self, stage: Stage) -> RenderableType:
        path = Table.grid(padding=(0, 1))
        names, places = [], []
        for index, (name, place) in enumerate(_PATH):
            if index:
                names.append(Text("──", "bright_black"))
                places.append(Text(""))
            names.append(Text(name, "bold"))
            places.append(Text(place, "dim"))
        path.add_row(*names)
        path.add_row(*places)
        load = stage.load
        line = (
            f"load: {load.asked} requests, {load.answered} answered, {load.waiting} under way, "
            f"{load.failed.total()} lost"
        )
        return Panel(
            Group(path, Text(""), self._targets(stage), Text(""), Text(line, "dim")),
            title=Text(self._title, "bold"),
            title_align="left",
            subtitle=f"the clock runs {stage.harness.factor:g} times as fast as the real one",
            subtitle_align="right",
            border_style="bright_black",
        )

    def _targets(self, stage: Stage) -> Table:
        table = Table.grid(padding=(0, 2))
        for gateway in stage.harness.gateways.values():
            for target in gateway.targets:
                state = str(gateway.targets.state(target.name))
                colour = _COLOURS[state]
                flows = stage.flows_of(target.name)
                self._flows_seen = max(self._flows_seen, flows)
                width = 24 if self._console.width >= 100 else 10
                filled = round(width * flows / self._flows_seen)
                process = stage.processes[target.name]
                running = "" if process.ended() is None else "process ended"
                table.add_row(
                    Text(f"● {target.name}", colour),
                    Text(state, colour),
                    Text("█" * filled + "·" * (width - filled), colour),
                    Text(f"{flows} flows", "default"),
                    Text(f"{gateway.new_flows[target.name]} in all", "dim"),
                    Text(running, "red"),
                )
        return table


def _mark(check: Check) -> Text:
    return Text("✔", "green") if check.happened else Text("✘", "bold red")
