"""Standing label: which one counts among all labels of one prediction. Pure.

Who writes labels says when they were observed, and may say tomorrow: no label is newer than its
arrival, by the database's clock. What comes late is dated by what was said: labels of the past may
arrive in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["age_key", "last_words", "standing_label"]


def age_key(label: Any) -> tuple[int, int, int]:
    """By which labels of one prediction are ordered, the newest last: when it was observed, at the
    latest when it came; of two that are as old the one that came last.

    Parameters
    ----------
    label
        With ``observed_at`` and ``received_at``, microseconds since 1970.

    Examples
    --------
    >>> from collections import namedtuple
    >>> L = namedtuple("L", "observed_at received_at")
    >>> tomorrow, corrected, late = L(900, 10), L(20, 21), L(5, 30)
    >>> sorted([tomorrow, corrected, late], key=age_key) == [late, tomorrow, corrected]
    True
    """
    observed, received = int(label.observed_at), int(label.received_at)
    # as sent in the end: two of one flush that both claim the future still have one order
    return min(observed, received), received, observed


def last_words(rows: Iterable[Any]) -> dict[str, Any]:
    """The newest label of each source, retractions among them. A row that gives no label, which
    once was let in, says nothing.

    Parameters
    ----------
    rows
        Of one prediction, with ``source``, ``observed_at``, ``received_at``, ``op``, ``label``.
    """
    return {r.source: r for r in sorted(rows, key=age_key) if r.op == "retract" or r.label}


def standing_label(rows: Iterable[Any], sources: Sequence[str]) -> Any | None:
    """The label that counts among all labels of one prediction.

    Within a source the newest (``age_key``; a retraction leaves the source without any); among
    sources the first of ``sources``, or, where no priority is given, the newest.

    Parameters
    ----------
    rows
        As for ``last_words``.
    sources
        Best first; a source that is not named is not believed. Empty: all, by age.

    Examples
    --------
    >>> from collections import namedtuple
    >>> L = namedtuple("L", "source observed_at op label received_at")
    >>> rows = [L("a", 1, "upsert", "x", 9), L("b", 2, "upsert", "y", 9)]
    >>> rows.append(L("a", 3, "upsert", "z", 9))
    >>> standing_label(rows, ["b", "a"]).label, standing_label(rows, []).label
    ('y', 'z')
    >>> standing_label([*rows, L("b", 4, "retract", None, 9)], ["b", "a"]).label
    'z'
    """
    standing = [r for r in last_words(rows).values() if r.op != "retract"]
    if not sources:
        return max(standing, key=lambda r: (*age_key(r), r.source), default=None)
    rank = {s: i for i, s in enumerate(sources)}
    believed = [r for r in standing if r.source in rank]
    return min(believed, key=lambda r: rank[r.source], default=None)
