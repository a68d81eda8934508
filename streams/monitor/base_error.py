"""Base error of a model version: what is normal, how sure that is, and how much errors come in
runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.decodable import decodable
from redistill.stats import upper_bound
from redistill.streams.monitor import numbered_json
from redistill.streams.monitor.daily_cycle import daily_cycle
from redistill.streams.monitor.sequential import Inflation, inflation

__all__ = ["SMALLEST_RATE", "BaseError"]

FORMAT = 1
"""Of the stored JSON."""
SMALLEST_RATE = 0.0005
"""A model without a single error in the reference is not thought better than this."""


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class BaseError:
    """Error of honest predictions (held out or cross-fitted) on reference rows.

    ``upper`` is above the plain rate by .2 points at 50,000 rows, 1 at some thousand and 1.8 at
    400: what the reference cannot tell apart from more errors, the test of harm will not call harm
    either.
    """

    errors: int
    n: int
    """Reference rows with a label."""
    rate: float
    upper: float
    """95% Clopper-Pearson bound, at least .0005: the null of the test."""
    ordered: bool = True
    """The rows were in time order; otherwise runs of errors cannot be seen and tempering is off."""
    provisional: bool = False
    """Learned from traffic; nobody vouched for it."""
    inflation: Inflation = ((1.0, 1.0),)
    """Variance inflation of block means, see ``sequential.inflation``."""
    daily: bool | None = None
    """Whether errors follow the hour of the day, see ``daily_cycle``; ``None``: not known."""

    @classmethod
    def from_errors(
        cls,
        errors: NDArray[np.generic],
        *,
        ordered: bool = True,
        provisional: bool = False,
        times: NDArray[np.int64] | None = None,
    ) -> BaseError:
        """Measure the base error.

        Parameters
        ----------
        errors
            ``(n,)`` 1 where the prediction was wrong, else 0; in time order if ``ordered``.
        times
            ``(n,)`` when the rows were served, microseconds since 1970, where that is known.

        Raises
        ------
        ValueError
            Without a single row, or with values other than 0 and 1.

        Examples
        --------
        >>> base = BaseError.from_errors(np.tile([0] * 9 + [1], 2000))
        >>> base.n, base.rate, round(base.upper, 4)
        (20000, 0.1, 0.1036)
        """
        e = np.asarray(errors)
        if e.ndim != 1 or not len(e):
            raise ValueError("a base error needs at least one labelled reference row")
        if not np.isin(e, (0, 1)).all():
            raise ValueError("errors are 0 (right) or 1 (wrong)")
        n, k = len(e), int(e.sum())
        return cls(
            errors=k,
            n=n,
            rate=k / n,
            upper=max(upper_bound(k, n), SMALLEST_RATE),
            ordered=ordered,
            provisional=provisional,
            inflation=inflation(e) if ordered else ((1.0, 1.0),),
            daily=None if times is None else daily_cycle(e, times),
        )

    def to_json(self) -> str:
        """As stored in ``profiles.base_error``."""
        return numbered_json.to_json(self, name="base", number=FORMAT)

    @classmethod
    def from_json(cls, data: str | bytes) -> BaseError:
        """Read what ``to_json`` wrote.

        Raises
        ------
        StateError
            If it is not a base error, or of a newer format.
        """
        return numbered_json.from_json(data, cls, name="base", number=FORMAT, what="base errors")
