"""Reading of one check about one subject, and the hysteresis that turns readings into trouble.

An alert that opens at a bound and ends at the same one flaps while the figure lies there. So each
reading has two bounds: it opens at one and ends at a lower one, and in between it stays as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

__all__ = ["Reading", "Settled", "settle"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a check found about a subject.

    Raises
    ------
    ValueError
        The bounds leave no room between them.
    """

    subject: str
    """A topic, a model, a process, ...: the same as long as it is about the same thing."""
    value: float | None
    """The figure that is compared, the larger the worse; ``None``: not known now, so nothing opens
    and nothing ends."""
    opens: float
    """Trouble begins when the figure is at least this, ..."""
    closes: float
    """... and ends when it is at most this, which is less."""
    said: str
    """One sentence with the figure in it, without a full stop."""
    remedy: str
    """What to do or to type."""
    model: str | None = None
    """That it concerns; ``None``: no one model."""

    def __post_init__(self) -> None:
        if not self.closes < self.opens:
            raise ValueError(f"{self.subject}: {self.closes} is not below {self.opens}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What becomes of the alerts of one kind."""

    firing: tuple[Reading, ...]
    """Open, or to be opened."""
    ended: frozenset[str]
    """Subjects of open alerts that are to be resolved."""


def settle(readings: Iterable[Reading] | None, opened: Collection[str]) -> Settled:
    """Decide by the readings of one kind which of its alerts open, stay and end.

    Parameters
    ----------
    readings
        At most one for a subject. A subject without one is gone, and its trouble with it. ``None``:
        nothing is known now, and everything stays as it is.
    opened
        Subjects of the alerts that are open.

    Examples
    --------
    >>> def lag(value):
    ...     return Reading(subject="labels", value=value, opens=10, closes=5, said="", remedy="")
    >>> [len(settle([lag(v)], ()).firing) for v in (4, 9, 10, None)]
    [0, 0, 1, 0]
    >>> [sorted(settle([lag(v)], ["labels"]).ended) for v in (9, 6, 5, None)]
    [[], [], ['labels'], []]
    >>> sorted(settle([], ["labels"]).ended), sorted(settle(None, ["labels"]).ended)
    (['labels'], [])
    """
    if readings is None:
        return Settled(firing=(), ended=frozenset())
    firing: list[Reading] = []
    stays: set[str] = set()
    for reading in readings:
        is_open = reading.subject in opened
        if reading.value is None:
            stays.add(reading.subject)
        elif reading.value >= reading.opens or (is_open and reading.value > reading.closes):
            firing.append(reading)
            stays.add(reading.subject)
    return Settled(firing=tuple(firing), ended=frozenset(opened) - stays)
