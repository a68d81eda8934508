"""Screen of the demo: live on a terminal, plain lines in a log, JSON lines for programs."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from redistill.modes import as_the_user_has_it
from redistill.workers.demo.world import ServiceStats

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Beat", "JsonScreen", "LineScreen", "Live", "Picture", "RichScreen", "Screen", "choose"]

SPARKS = "▁▂▃▄▅▆▇█"
PICTURE_WIDTH = 120
"""Columns of the picture."""
HISTORY = 48
"""Points of the accuracy curve on the terminal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """Something happened, and was found in the database, on a topic or in a service's own count."""

    at: float
    """Seconds since the demo's start."""
    scene: str
    what: str
    """A constant name, for programs."""
    text: str
    """One sentence, for people."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Every figure of the sentence, and more, for programs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Live:
    """What a person watches between two beats."""

    at: float
    scene: str
    doing: str
    services: tuple[ServiceStats, ...] = ()
    correct: float | None = None
    """Truth: share of right rows in the last second, all services."""
    measured: tuple[float, int] | None = None
    """Accuracy on labelled rows of the serving version in this scene, and how many they are."""


class Screen(Protocol):
    """A way to tell the story."""

    def say(self, beat: Beat) -> None:
        """Tell one beat."""

    def show(self, live: Live) -> None:
        """Show what is going on now; called several times a second."""

    def close(self) -> None:
        """End: nothing is shown afterwards."""


class LineScreen:
    """One line per beat, for a log or a pipe."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stdout
        self._scene = ""

    def say(self, beat: Beat) -> None:
        """Print the sentence behind its time, under the name of its scene."""
        if beat.scene != self._scene:
            self._scene = beat.scene
            print(f"--- {beat.scene}", file=self._out)
        text = beat.text.replace("\n", "\n" + " " * 10)
        print(f"{beat.at:6.1f} s  {text}", file=self._out, flush=True)

    def show(self, live: Live) -> None:
        """Lines say only what happened."""

    def close(self) -> None:
        """Nothing to end."""


class JsonScreen:
    """One JSON object per beat, for programs."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stdout

    def say(self, beat: Beat) -> None:
        """Print ``{"at", "scene", "event", "text", ...facts}``."""
        line = {
            "at": round(beat.at, 3),
            "scene": beat.scene,
            "event": beat.what,
            "text": beat.text,
            **beat.facts,
        }
        print(json.dumps(line), file=self._out, flush=True)

    def show(self, live: Live) -> None:
        """Programs read facts only."""

    def close(self) -> None:
        """Nothing to end."""


class RichScreen:
    """The story scrolls above a live table of the services and a curve of the accuracy."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live as RichLive

        self._console = console
        self._scene = ""
        self._curve: list[float] = []
        self._last = Live(at=0.0, scene="", doing="")
        self._live = RichLive(console=console, refresh_per_second=8, transient=True)
        self._live.start()

    def say(self, beat: Beat) -> None:
        """Print the sentence above the live part."""
        for line in lines_of(beat, self._scene):
            self._console.print(line)
        self._scene = beat.scene

    def show(self, live: Live) -> None:
        """Draw the live part again."""
        if live.correct is not None and int(live.at * 2) != int(self._last.at * 2):
            self._curve = [*self._curve[-(HISTORY - 1) :], live.correct]
        self._last = live
        self._live.update(self._render())

    def close(self) -> None:
        """Take the live part away; the story stays."""
        self._live.stop()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        live = self._last
        parts: list[RenderableType] = [Text()]
        if live.services:
            table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
            for name in ("service", "version", "requests", "failed", "predict"):
                table.add_column(
                    name, justify="left" if name in ("service", "version") else "right"
                )
            for s in live.services:
                micros = "-" if s.predict_us is None else f"{s.predict_us:.0f} µs"
                failed = Text(str(s.failed), style="red" if s.failed else "green")
                table.add_row(s.service, s.version, f"{s.requests:,}", failed, micros)
            parts.append(table)
        if self._curve:
            now = "" if live.correct is None else f"{100 * live.correct:5.1f}% of all rows"
            line = Text.assemble(("accuracy  ", "dim"), (spark(self._curve), "cyan"), f" {now}")
            if live.measured is not None:
                value, n = live.measured
                line.append(f", {100 * value:.1f}% measured on {n:,} labels", style="dim")
            parts.append(line)
        parts.append(Spinner("dots", text=Text(f" {live.at:.0f} s  {live.doing}", style="dim")))
        return Group(*parts)


class Picture:
    """Tells the story on another screen, and draws it as SVG at the end.

    Parameters
    ----------
    inner
        The other screen.
    path
        Where the picture goes.
    """

    def __init__(self, inner: Screen, path: Path) -> None:
        self._inner = inner
        self._path = path
        self._beats: list[Beat] = []

    def say(self, beat: Beat) -> None:
        """Tell it, and remember it."""
        self._beats.append(beat)
        self._inner.say(beat)

    def show(self, live: Live) -> None:
        """The picture shows what happened only."""
        self._inner.show(live)

    def close(self) -> None:
        """Draw."""
        from rich.console import Console

        self._inner.close()
        console = Console(record=True, file=io.StringIO(), width=PICTURE_WIDTH, highlight=False)
        scene = ""
        for beat in self._beats:
            for line in lines_of(beat, scene):
                console.print(line)
            scene = beat.scene
        svg = console.export_svg(title="redistill demo")
        # the fonts would be fetched from elsewhere: every viewer has one of its own
        with as_the_user_has_it():
            self._path.write_text(re.sub(r"@font-face\s*{[^}]*}", "", svg), encoding="utf-8")


def lines_of(beat: Beat, scene: str) -> list[RenderableType]:
    """A beat in colour, under the name of its scene if that is another than ``scene``."""
    from rich.table import Table
    from rich.text import Text

    style = {"failed": "bold red", "summary": "bold green", "gate": "dim"}.get(beat.what, "")
    line = Table.grid(padding=(0, 2, 0, 0))  # long sentences go on under their own beginning
    line.add_column(no_wrap=True, style="dim")
    line.add_column(overflow="fold", style=style)
    line.add_row(f"{beat.at:6.1f} s", Text(beat.text))
    heading = [] if beat.scene == scene else [Text(f"\n{beat.scene}", style="bold")]
    return [*heading, line]


def spark(values: list[float]) -> str:
    """A curve in one line of text; the scale is 0 to 1.

    Examples
    --------
    >>> spark([0.0, 0.5, 1.0])
    '▁▅█'
    """
    top = len(SPARKS) - 1
    return "".join(SPARKS[round(min(1.0, max(0.0, v)) * top)] for v in values)


def choose(*, as_json: bool) -> Screen:
    """JSON if asked for; live on a terminal; plain lines otherwise."""
    if as_json:
        return JsonScreen()
    from rich.console import Console

    console = Console(highlight=False)
    return RichScreen(console) if console.is_terminal else LineScreen()
