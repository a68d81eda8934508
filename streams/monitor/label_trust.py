"""Label trust: which labels count, and which of two sources comes first.

A label is somebody's word, and its source is what the record says. Nobody can see who wrote a
record, but a topic's ACL says who may write there: a *bound* source is believed on its own topic
only, and then nobody else is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Cutover", "counts", "partition_key", "ranking"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cutover:
    """Where the common topic ended when a model bound its first sources: what lay before is taken
    for what it was when it was written, a label that counts."""

    sources: tuple[str, ...] = ()
    offsets: Mapping[str, int] = field(default_factory=dict)
    """End of each partition of ``labels``, by :func:`partition_key`."""

    def covers(self, source: str, partition: str, offset: int) -> bool:
        """Whether a label of the common topic is as good as one of its source's topic.

        Examples
        --------
        >>> cutover = Cutover(sources=("ledger",), offsets={"id/0": 3})
        >>> [cutover.covers("ledger", "id/0", offset) for offset in (2, 3)]
        [True, False]
        >>> cutover.covers("analyst", "id/0", 2), cutover.covers("ledger", "id/1", 0)
        (False, False)
        """
        return source in self.sources and offset < self.offsets.get(partition, 0)


def partition_key(topic_id: str, number: int) -> str:
    """Name of a partition in JSON. A topic that was made again is another one.

    Examples
    --------
    >>> partition_key("id", 3)
    'id/3'
    """
    return f"{topic_id}/{number}"


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
        It came from the topic of this source, or before its cut-over.
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
