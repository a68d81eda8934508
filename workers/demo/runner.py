"""Runner of the scenario: waits for what has to happen, each with a deadline, and tells it."""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from redistill.streams.store.database import Database
from redistill.times import to_us
from redistill.workers.demo import facts
from redistill.workers.demo.facts import Measured, Snapshot
from redistill.workers.demo.processes import DemoProcesses
from redistill.workers.demo.screen import Beat, Live, Screen
from redistill.workers.demo.teacher import MODEL
from redistill.workers.errors import WorkersError

__all__ = [
    "DemoFailed",
    "ScenarioRunner",
    "Truth",
    "accuracy_facts",
    "accuracy_text",
    "cpu_seconds",
]

POLL_SECONDS = 0.05

T = TypeVar("T")


class DemoFailed(WorkersError):
    """Something that belongs to the story did not happen, or something happened that must not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What the services know: all rows, not only the labelled ones."""

    correct: int
    rows: int

    @property
    def accuracy(self) -> float:
        """Share of right rows; 0 without any."""
        return self.correct / self.rows if self.rows else 0.0


def accuracy_text(measured: Measured, truth: Truth) -> str:
    """How an accuracy is told: what redistill knows beside what is true.

    Examples
    --------
    >>> accuracy_text(Measured(correct=45, n=50), Truth(correct=455, rows=500))
    'accuracy 90.0% [78.2, 96.7] measured on 50 labels; truth on all 500 rows 91.0%'
    """
    true = f"truth on all {truth.rows:,} rows {100 * truth.accuracy:.1f}%"
    if measured.accuracy is None:
        return f"accuracy not measured yet; {true}"
    low, high = measured.interval()
    return (
        f"accuracy {100 * measured.accuracy:.1f}% [{100 * low:.1f}, {100 * high:.1f}] "
        f"measured on {measured.n:,} labels; {true}"
    )


def accuracy_facts(measured: Measured, truth: Truth) -> dict[str, Any]:
    """The same, for programs."""
    low, high = measured.interval() if measured.n else (None, None)
    return {
        "measured": {
            "accuracy": _rounded(measured.accuracy),
            "low": _rounded(low),
            "high": _rounded(high),
            "n": measured.n,
        },
        "truth": {"accuracy": _rounded(truth.accuracy), "rows": truth.rows},
    }


class ScenarioRunner:
    """Runs one scenario: holds its processes, its screen and its clock.

    Parameters
    ----------
    processes
        What runs.
    screen
        Where it is told.
    clock
        Unix seconds; the same clock as in the database and in the services.
    """

    def __init__(
        self, processes: DemoProcesses, screen: Screen, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.processes = processes
        self.screen = screen
        self.clock = clock
        self.began = clock()
        self.database: Database | None = None
        self.scene = "opening"
        self.doing = ""
        self.version: str | None = None
        self.since = 0
        """Start of what is measured now: microseconds since 1970."""
        self.watch: Callable[[Snapshot], None] | None = None
        """Looks at every snapshot that is taken, whatever is waited for."""
        self._facts: facts.Reader | None = None
        self._deaths = 0
        self._shown = 0.0
        self._recent: deque[tuple[float, int, int]] = deque(maxlen=8)

    # --- telling ---

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.began

    def enter(self, scene: str, doing: str) -> None:
        """Begin a scene."""
        self.scene, self.doing = scene, doing

    def say(self, what: str, text: str, **known: Any) -> None:
        """Tell what happened."""
        self.screen.say(Beat(at=self.now, scene=self.scene, what=what, text=text, facts=known))

    # --- waiting ---

    def until(self, what: str, check: Callable[[Snapshot], T | None], *, seconds: float) -> T:
        """Wait until ``check`` finds what it looks for, and return that.

        Parameters
        ----------
        what
            What is waited for, as the end of "waiting for ...".
        check
            Given the facts of the moment; ``None`` or ``False``: not yet.
        seconds
            Budget of wall-clock time.

        Raises
        ------
        DemoFailed
            It did not happen in time.
        """
        self.doing = what
        end = self.clock() + seconds
        while True:
            self.tick()
            seen = self.snapshot()
            if self.watch is not None:
                self.watch(seen)
            found = check(seen)
            if found is not None and found is not False:
                return found
            if self.clock() > end:
                raise DemoFailed(f"not within {seconds:g} s: {what}")
            time.sleep(POLL_SECONDS)

    def pause(self, what: str, seconds: float) -> None:
        """Let the story run for a while."""
        self.doing = what
        end = self.clock() + seconds
        while self.clock() < end:
            self.tick()
            time.sleep(POLL_SECONDS)

    def tick(self) -> None:
        """Keep the workers running and the screen moving."""
        self.processes.poll()
        for death in self.processes.deaths[self._deaths :]:
            self.say("process_ended", str(death), process=death.name, status=death.status)
        self._deaths = len(self.processes.deaths)
        if self.now - self._shown < 0.2:
            return
        self._shown = self.now
        stats = self.processes.stats()
        rows = sum(t.rows for s in stats for t in s.tallies)
        correct = sum(t.correct for s in stats for t in s.tallies)
        if not self._recent or rows > self._recent[-1][1]:
            self._recent.append((self.now, rows, correct))
        _, old_rows, old_correct = self._recent[0]
        measured = None
        if self.database is not None and self.version is not None and rows:
            known = self.measured(self.version, since=self.since)
            measured = (known.correct / known.n, known.n) if known.n else None
        self.screen.show(
            Live(
                at=self.now,
                scene=self.scene,
                doing=self.doing,
                services=tuple(stats),
                correct=(correct - old_correct) / (rows - old_rows) if rows > old_rows else None,
                measured=measured,
            )
        )

    def command(self, *words: str, seconds: float = 60.0) -> str:
        """Run a ``redistill`` command to its end and return what it printed.

        Raises
        ------
        DemoFailed
            It failed, or did not end in time.
        """
        command = self.processes.command(*words)
        status = self.until(f"`{command.words}`", lambda _: _one(command.ended()), seconds=seconds)[
            0
        ]
        if status != 0:
            raise DemoFailed(f"`{command.words}` ended with status {status}: {command.output()}")
        return command.output()

    def expect(self, holds: bool, otherwise: str) -> None:
        """Go on only if something holds.

        Raises
        ------
        DemoFailed
            Saying what was found in its place.
        """
        if not holds:
            raise DemoFailed(otherwise)

    # --- facts ---

    def snapshot(self) -> Snapshot:
        """What the database says now; nothing before it is open."""
        if self.database is None:
            return Snapshot()
        if self._facts is None:
            self._facts = facts.Reader(self.database, MODEL)
        return self._facts.now()

    def close(self) -> None:
        """Close the database."""
        if self._facts is not None:
            self._facts.close()
        if self.database is not None:
            self.database.dispose()

    def measured(self, version: str, *, since: int = 0, until: int | None = None) -> Measured:
        """Accuracy of a version on its labelled rows served in a period (microseconds)."""
        if self.database is None:
            return Measured(correct=0, n=0)
        return facts.measured(self.database, MODEL, version, since=since, until=until)

    def truth(self, scene: str, version: str | None = None) -> Truth:
        """What the services know of a scene."""
        tallies = [
            t
            for s in self.processes.stats()
            for t in s.tallies
            if t.scene == scene and version in (None, t.version)
        ]
        return Truth(correct=sum(t.correct for t in tallies), rows=sum(t.rows for t in tallies))

    def scene_began(self, scene: str) -> int | None:
        """When the first row of a scene was served, in microseconds; ``None``: not yet."""
        firsts = [t.first for s in self.processes.stats() for t in s.tallies if t.scene == scene]
        return to_us(min(firsts)) if firsts else None


def cpu_seconds() -> float:
    """CPU time of this process and of all its children that have ended, in seconds."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in both)


def _one(status: int | None) -> tuple[int] | None:
    """Wrap an exit status: 0 is an answer, too."""
    return None if status is None else (status,)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
