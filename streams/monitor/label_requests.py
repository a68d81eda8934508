"""Label requests: which rows to ask labels for once something is suspected. Pure.

Labels at random are too few to find small harm soon, and most of them are spent while nothing is
wrong. A *burst* asks for rows that were served already, spread evenly from the likeliest change
point to now, and for the next ones as they are served. Which rows these are depends on the past
only, so that the test of harm keeps its promise; the label itself says what it says whoever asked.

Rows are numbers of one version's rows in the order in which they were served, from 0. What is asked
for, and what that leaves of a budget, is for the caller to keep.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from redistill.decodable import decodable
from redistill.streams.monitor.suspicion import CONFIDENCE, slice_of

__all__ = ["LONGEST_ROWS", "RequestState", "decide", "included", "opened", "spread", "take"]

BURST_ROWS = 250
"""Rows asked for looking back, and again of those that come next."""
LONGEST_ROWS = 4_000
"""Rows that a burst looks back at most: what is older is long told by labels at random."""
SLICE_BACK = 60
SLICE_NEXT = 30
"""The same for a burst of one slice, of its own rows."""
SETTLE_ROWS = 300
"""Rows served after the last label of a burst is there, before the same suspicion asks again."""
CONFIDENCE_ROWS = 2_000
"""Rows until a fall of the confidence that labels did not confirm asks again; twice as many each
time, since what the model has not seen before need not harm."""
LONGEST_WAIT_ROWS = 64_000
FEWEST = 100
"""Rows that the budget must have left for a burst to begin: fewer decide nothing."""
FEWEST_OF_SLICE = 20


@decodable
class Rearm(msgspec.Struct, frozen=True, kw_only=True):
    """When a suspicion may ask again."""

    row: int
    """Not before this many rows were served."""
    wait: int
    """Rows that it will wait the next time, without the burst's own."""


@decodable
class RequestState(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of the requests of one version. A value; ``to_json`` stores it.

    Examples
    --------
    >>> state, burst = decide(RequestState(), "harm", row=9_000, since=7_000, left=1_400)
    >>> burst
    Burst(why='harm', first=7000, end=9000, back=250, next=250, p_include=0.125)
    >>> decide(state, "confidence", row=9_100, since=9_000, left=1_150)[1] is None  # one at a time
    True
    >>> state.following
    {'harm': 250}
    >>> RequestState.from_json(state.to_json()) == state
    True
    """

    following: Mapping[str, int] = {}
    """Why -> rows that are still to be asked for as they are served."""
    rearm: Mapping[str, Rearm] = {}

    def to_json(self) -> bytes:
        """As stored."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> RequestState:
        """Read what ``to_json`` wrote."""
        return msgspec.json.decode(data, type=cls)


class Burst(msgspec.Struct, frozen=True, kw_only=True):
    """Rows to ask labels for: ``spread`` picks those that were served already."""

    why: str
    first: int
    """First row of those looked back at."""
    end: int
    """Row after the last of them: those served from here on are ``next``."""
    back: int
    """Rows to ask for of those from ``first`` to ``end`` (of the slice's, where it is one)."""
    next: int
    """Rows to ask for as they are served, every one (of the slice, where ``why`` is one: labels of
    such a request feed that slice's test only)."""
    p_include: float
    """Probability of a row from ``first`` to ``end`` to be picked; for a slice, where it is that
    of the slice's rows only, ``back`` over their number."""


def decide(
    state: RequestState,
    why: str,
    *,
    row: int,
    since: int | None,
    left: int,
    delay: int = 0,
    rows: int | None = None,
) -> tuple[RequestState, Burst | None]:
    """Whether a suspicion asks for labels now.

    One burst at a time is under way for the whole model, and one for each slice; while the former
    is, no slice asks.

    Parameters
    ----------
    why
        As in ``suspicion.Suspicion``.
    row
        Rows served so far.
    since
        Row of the likeliest change point; ``None``: not known.
    left
        Rows that the budget allows to ask for.
    delay
        Rows served, usually, between a request and its answer.
    rows
        For a slice: its own rows from ``since`` to now, of which ``back`` are asked for.
    """
    of_slice = slice_of(why) is not None
    back, following = (SLICE_BACK, SLICE_NEXT) if of_slice else (BURST_ROWS, BURST_ROWS)
    rearm = state.rearm.get(why, Rearm(row=0, wait=CONFIDENCE_ROWS))
    busy = [w for w in state.following if w == why or slice_of(w) is None]
    if busy or row < rearm.row or left < (FEWEST_OF_SLICE if of_slice else FEWEST):
        return state, None
    if why == CONFIDENCE:
        wait, longer = rearm.wait, min(2 * rearm.wait, LONGEST_WAIT_ROWS)
    else:
        wait, longer = SETTLE_ROWS + delay, rearm.wait
    after = Rearm(row=row + BURST_ROWS + wait, wait=longer)
    back = min(back, left)
    following = min(following, left - back)
    first = row - BURST_ROWS if since is None else min(since, row - BURST_ROWS)
    first = max(first, row - LONGEST_ROWS, 0)
    candidates = row - first if rows is None else rows
    burst = Burst(
        why=why,
        first=first,
        end=row,
        back=back,
        next=following,
        p_include=min(1.0, back / max(candidates, 1)),
    )
    later = {**state.following, why: following} if following else state.following
    return structs.replace(state, following=later, rearm={**state.rearm, why: after}), burst


def take(state: RequestState, why: str, rows: int, left: int) -> tuple[RequestState, int]:
    """How many of the ``rows`` that were just served (of the slice) a burst under way asks for:
    the first ones, as far as it goes and the budget has ``left``."""
    wanted = state.following.get(why, 0)
    n = max(0, min(wanted, rows, left))
    following = {w: k for w, k in state.following.items() if w != why}
    if n in (wanted, left):  # done, or nothing left to go on with
        return structs.replace(state, following=following), n
    return structs.replace(state, following={**following, why: wanted - n}), n


def opened(state: RequestState, why: str | None = None) -> RequestState:
    """A finding of harm has opened: what was suspected is decided, so nothing more is asked for it,
    and it may ask at once the next time.

    Parameters
    ----------
    why
        ``slice:COLUMN=VALUE`` whose finding it is; ``None``: of the whole model, which ends all.
    """

    def kept(name: str) -> bool:
        return why is not None and name != why

    return RequestState(
        following={w: n for w, n in state.following.items() if kept(w)},
        rearm={w: r for w, r in state.rearm.items() if kept(w)},
    )


def spread(candidates: int, wanted: int, start: float) -> NDArray[np.int64]:
    """Evenly spaced picks: indices of ``wanted`` among so many ``candidates``, oldest first.

    Each candidate is picked with probability ``wanted / candidates`` (systematic sampling with a
    random start), and no two picks are closer than those are on average, so that a short run of
    errors is not picked as a whole.

    Parameters
    ----------
    start
        A draw from [0, 1).

    Examples
    --------
    >>> spread(10, 4, 0.5).tolist(), spread(3, 4, 0.5).tolist()
    ([1, 3, 6, 8], [0, 1, 2])
    """
    if wanted >= candidates:
        return np.arange(candidates, dtype=np.int64)
    offset = int(start * candidates)
    return np.asarray((np.arange(wanted, dtype=np.int64) * candidates + offset) // max(wanted, 1))


def included(*probabilities: float) -> float:
    """Probability that at least one of several independent draws includes a row.

    Examples
    --------
    >>> round(included(0.08, 0.5), 2)
    0.54
    """
    missed = 1.0
    for p in probabilities:
        missed *= 1 - p
    return 1 - missed
