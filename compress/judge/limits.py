"""Limits of gates: the kinds of numbers that they are, the ranges that make sense, and words for
what was expected. Pure.

``model.toml`` and ``job.json`` are held to the same ranges: those that the fields of a gate's
``Limit`` are annotated with.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import inspect

__all__ = [
    "Area",
    "ByteCount",
    "EValue",
    "ExcludedLoss",
    "Loss",
    "Milliseconds",
    "MillisecondsOrZero",
    "Points",
    "Rate",
    "Ratio",
    "Risk",
    "RowCount",
    "RowCountOrAuto",
    "Seed",
    "Share",
    "shown",
    "wrong",
]

EValue = Annotated[float, msgspec.Meta(ge=10, le=1_000_000_000)]
"""Less than 10 is no evidence: one in ten who cannot be better reaches it at some look."""
Points = Annotated[float, msgspec.Meta(ge=0, le=50)]
"""Hundredths of a loss, to be shown or excluded; who may lose half of everything needs no gate."""
Loss = Annotated[float, msgspec.Meta(ge=0, le=100)]
"""Hundredths of a loss that refuses where it is shown; 100 never is."""
ExcludedLoss = Annotated[float, msgspec.Meta(ge=1, le=50)]
"""Hundredths of a loss to be excluded of each group: for one point a group needs thousands of rows,
and that nothing at all is lost no number of rows shows."""
Share = Annotated[float, msgspec.Meta(ge=0.01, le=1)]
Area = Annotated[float, msgspec.Meta(ge=0.5, le=1)]
"""Under a ROC curve: .5 is chance."""
Ratio = Annotated[float, msgspec.Meta(ge=0.01, le=100)]
RowCount = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
ByteCount = Annotated[int, msgspec.Meta(ge=1)]
Rate = Annotated[float, msgspec.Meta(ge=0.001, le=1_000_000_000)]
"""A second."""
Milliseconds = Annotated[float, msgspec.Meta(ge=0.001, le=1_000_000)]
MillisecondsOrZero = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
RowCountOrAuto = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
"""0: as many as are needed."""
Risk = Annotated[float, msgspec.Meta(ge=0.0001, le=0.2)]
"""Probability of an error."""
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


def wrong(limit: type[Any], given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What cannot be a limit of a gate.

    Parameters
    ----------
    limit
        The gate's own dataclass.
    given
        Values by field; those of fields that it does not have are passed over.

    Yields
    ------
    tuple
        Field, and a sentence: the value, and what was expected.

    Examples
    --------
    >>> @dataclasses.dataclass
    ... class Limit:
    ...     e_value: EValue = 20.0
    >>> dict(wrong(Limit, {"e_value": -1}))
    {'e_value': '-1: a number from 10 to 1,000,000,000 was expected'}
    >>> dict(wrong(Limit, {"e_value": 400}))
    {}
    """
    kinds = typing.get_type_hints(limit, include_extras=True)
    for name in (f.name for f in dataclasses.fields(limit)):
        if name not in given:
            continue
        value = given[name]
        try:
            msgspec.convert(value, kinds[name])
        except (msgspec.ValidationError, OverflowError):
            yield name, f"{shown(value)}: {_words(inspect.type_info(kinds[name]))} was expected"


def shown(value: Any) -> str:
    """A value that somebody wrote, for a sentence about it."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _words(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.UnionType):
        return _words(next(t for t in kind.types if not isinstance(t, inspect.NoneType)))
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if not isinstance(kind, inspect.FloatType | inspect.IntType):
        return "another type"
    what = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
    if kind.ge is not None and kind.le is not None:
        return f"{what} from {kind.ge:,} to {kind.le:,}"
    return what if kind.ge is None else f"{what} of at least {kind.ge:,}"
