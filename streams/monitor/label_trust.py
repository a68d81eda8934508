"""Label trust: which labels count, and which of two sources comes first.

A label is somebody's word, and its source is what the record says. Nobody can see who wrote a
record, but a topic's ACL says who may write there: a *bound* source is believed on its own topic
only, and then nobody else is.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["counts", "ranking"]


def counts(
    source: str, bound: bool, *, sources: Sequence[str], bound_sources: Sequence[str]
) -> bool:
    """Whether a label counts: for detectors, diagnosis, training, gates, recovery and all else that
    judges. One that does not is stored and shown.

    Parameters
    ----------
    source
        Who says so.
    bound
        It came from the topic of this source.
    sources
        The model's ``[labels] sources``; empty: all.
    bound_sources
        The model's ``[labels] bound``; empty: it binds none.

    Examples
    --------
    >>> counts("ledger", False, sources=(), bound_sources=())
    True
    >>> counts("ledger", False, sources=("ledger", "analyst"), bound_sources=("ledger",))
    False
    >>> [counts(s, True, sources=("ledger", "analyst"), bound_sources=("ledger",))
    ...  for s in ("ledger", "analyst")]
    [True, False]
    """
    if bound_sources:
        return bool(bound) and source in bound_sources
    return not sources or source in sources


def ranking(sources: Sequence[str], bound_sources: Sequence[str]) -> Sequence[str]:
    """The sources that can count, best first; empty: all, by time.

    Examples
    --------
    >>> ranking(("analyst", "ledger"), ("ledger",)), ranking(("analyst", "ledger"), ())
    (('ledger',), ('analyst', 'ledger'))
    """
    return bound_sources or sources
