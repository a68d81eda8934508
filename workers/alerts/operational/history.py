"""History of figures that SQL holds only the present of: one number a minute, for an hour.

It is kept as one property, so that an alert process that comes back, or takes over from another
one, goes on where the last one was. Pure: the round reads and writes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from redistill.times import MINUTE

__all__ = ["BREAK_US", "KEPT_MINUTES", "History"]

KEPT_MINUTES = 60
BREAK_US = MINUTE
"""Between two rounds: after a longer break (the database was away, the machine slept) what others
did not say meanwhile is held against nobody."""


@dataclass(slots=True)
class History:
    """Times are microseconds since 1970. Figures and conditions go by names of the checks' own."""

    lows: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """By name: minutes since 1970, and the lowest figure in each."""
    since: dict[str, int] = field(default_factory=dict)
    """By name of a condition that holds: since when it was seen to, without a break."""
    steady_since: int = 0
    """Since when there was a round at least every ``BREAK_US``."""
    round_at: int = 0
    """Of the last round."""
    _used: set[str] = field(default_factory=set, compare=False, repr=False)

    def begin(self, now: int) -> None:
        """A round begins."""
        if not 0 <= now - self.round_at <= BREAK_US:
            self.steady_since = now
        self.round_at = now
        self._used = set()

    def note(self, name: str, figure: int, now: int) -> list[tuple[int, int]]:
        """Add a figure; returns the lows of the last hour, oldest first, with this one in the last.

        Examples
        --------
        >>> h = History()
        >>> for t, n in ((0, 5), (1, 3), (MINUTE, 9)):
        ...     lows = h.note("lag", n, t)
        >>> lows
        [(0, 3), (1, 9)]
        """
        minute = now // MINUTE
        kept = [(m, n) for m, n in self.lows.get(name, ()) if minute - KEPT_MINUTES < m < minute]
        same = [n for m, n in self.lows.get(name, ()) if m == minute]
        kept.append((minute, min([figure, *same])))
        self.lows[name] = kept
        self._used.add(name)
        return kept

    def lasted(self, name: str, holds: bool, now: int) -> int:
        """How long a condition has held; 0 while it does not.

        Examples
        --------
        >>> h = History()
        >>> [h.lasted("held up", holds, t) for t, holds in ((1, True), (4, True), (5, False))]
        [0, 3, 0]
        """
        if not holds:
            self.since.pop(name, None)
            return 0
        self._used.add(name)
        began = min(self.since.setdefault(name, now), now)
        return now - began

    def begins(self, name: str, now: int) -> bool:
        """Whether a condition holds since this look, and did not in the rounds before.

        Examples
        --------
        >>> h = History()
        >>> [h.begins("unreadable:a", t) for t in (1, 1, 2)]
        [True, False, False]
        """
        new = name not in self.since
        self.lasted(name, True, now)
        return new

    def keep(self, prefix: str) -> None:
        """Whatever begins so is kept, although this round did not ask for it: it is not known."""
        self._used |= {name for name in (*self.lows, *self.since) if name.startswith(prefix)}

    def end(self) -> None:
        """A round ends: what it did not ask for is about something that is gone."""
        self.lows = {name: kept for name, kept in self.lows.items() if name in self._used}
        self.since = {name: at for name, at in self.since.items() if name in self._used}

    def to_json(self) -> str:
        """As it is stored."""
        return json.dumps(
            {
                "lows": self.lows,
                "since": self.since,
                "steady_since": self.steady_since,
                "round_at": self.round_at,
            },
            sort_keys=True,
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str | None) -> History:
        """What was stored; an empty one where nothing was, or what cannot be read: it is learned
        anew within the hour."""
        if text is None:
            return cls()
        try:
            told = json.loads(text)
            lows = {
                str(name): [(int(m), int(n)) for m, n in kept]
                for name, kept in told["lows"].items()
            }
            since = {str(name): int(at) for name, at in told["since"].items()}
            return cls(lows, since, int(told["steady_since"]), int(told["round_at"]))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return cls()
