"""Expected error of a row, by its slices and the model's confidence: the null of a test per slice.

Slices differ in how often a model is wrong, and traffic moves between them. A test that knows one
error rate per model takes a hard slice that grows for harm in each slice that it meets. Here the
reference says what to expect of each row, and how far a slice may be above that by luck.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from redistill.decodable import decodable
from redistill.streams.monitor import numbered_json
from redistill.streams.monitor.base_error import SMALLEST_RATE, BaseError
from redistill.streams.monitor.sequential import Inflation, inflation
from redistill.streams.wire.block import Codes

__all__ = ["LEAST_ROWS", "ExpectedError", "SliceReference"]

FORMAT = 1
"""Of the stored JSON."""
LEAST_ROWS = 100
"""Reference rows of a slice that has a test: fewer bound its error too loosely."""
MOST_SLICES = 50
"""Slices that have a test, the largest ones: each costs time on every label."""
MOST_VALUES = 50
"""Values of a column that are told apart, the most frequent ones."""
OWN_INFLATION_ROWS = 400
"""Reference rows from which a slice shows itself how much its errors come in runs."""
CONFIDENCE_BINS = 20
PRIOR_ERRORS = 5.0
"""Errors, as many as expected, that each ratio counts beside those seen."""
ROUNDS = 6
"""Of raking: the margins agree to a thousandth after them."""
PRIOR_ROWS = 50.0
"""A column's other slices count for so many rows at most. A small reference shows no spread between
slices by luck, and an unbounded prior would then take all of them for one: measured, 79 false
alarms per 1M rows in place of 1.4."""
MISS = 0.01
"""Probability that a slice's true error is above its bound."""
LARGEST = 0.95


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class SliceReference:
    """What the reference says about one slice that has a test."""

    column: str
    value: str
    n: int
    """Reference rows with a label."""
    errors: int
    expected: float
    """Mean expected error of these rows."""
    upper: float
    """99% empirical-Bayes bound of the slice's error."""
    inflation: Inflation | None = None
    """Variance inflation of the slice's own errors; ``None``: too few rows, the model's counts."""

    @property
    def name(self) -> str:
        """As findings and requests for labels spell it."""
        return f"{self.column}={self.value}"

    @property
    def kappa(self) -> float:
        """How far above its expected error the slice may be without harm: a factor, at least 1."""
        return max(1.0, self.upper / self.expected)

    def base(self, model: BaseError) -> BaseError:
        """What is normal for the slice, in the form of that of its model."""
        return replace(
            model,
            errors=self.errors,
            n=self.n,
            rate=self.errors / self.n,
            upper=self.upper,
            inflation=model.inflation if self.inflation is None else self.inflation,
        )


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedError:
    """Expected error of a row: ``mean`` x one ratio per value of its slices x one for its
    confidence, fitted by raking (iterative proportional fitting) to the errors of honest
    predictions.

    References
    ----------
    Deming, Stephan: On a least squares adjustment of a sampled frequency table when the expected
    marginal totals are known. Annals of Mathematical Statistics 1940. Morris: Parametric empirical
    Bayes inference. JASA 1983.
    """

    n: int
    errors: int
    mean: float
    ratios: dict[str, dict[str, float]]
    """Column -> value -> ratio; a value that is not there counts as 1."""
    edges: tuple[float, ...] = ()
    """Edges between the bins of confidence; none: it is not known."""
    bins: tuple[float, ...] = ()
    """Ratio of each bin, one more than edges."""
    slices: tuple[SliceReference, ...] = ()
    """Those that have a test, the largest first."""

    @property
    def rate(self) -> float:
        """Error rate of the reference rows."""
        return self.errors / self.n

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of which at least one slice has a test."""
        return tuple(dict.fromkeys(s.column for s in self.slices))

    @classmethod
    def fit(
        cls,
        errors: NDArray[np.generic],
        slices: Mapping[str, Codes],
        confidence: NDArray[np.floating] | None = None,
        *,
        ordered: bool = True,
    ) -> ExpectedError:
        """Fit the table to reference rows.

        Parameters
        ----------
        errors
            ``(n,)`` 1 where an honest (held out or cross-fitted) prediction was wrong, else 0; in
            time order if ``ordered``.
        slices
            Column -> ``(n,)`` values.
        confidence
            ``(n,)`` largest score of each row; NaN where unknown.

        Raises
        ------
        ValueError
            Without a row, with values other than 0 and 1, or with columns of another length.

        Examples
        --------
        >>> region = Codes.of(["EU", "US"] * 1_000)
        >>> wrong = np.tile([0, 0, 0, 1, 0, 0, 0, 0, 0, 1], 200)  # none in the EU
        >>> table = ExpectedError.fit(wrong, {"region": region})
        >>> [(s.name, s.n, s.errors) for s in table.slices]
        [('region=EU', 1000, 0), ('region=US', 1000, 400)]
        >>> table.of({"region": Codes.of(["EU", "US", None])}, rows=3).round(3).tolist()
        [0.0..., 0.3..., 0.2]
        """
        e = np.asarray(errors, np.float64)
        if e.ndim != 1 or not len(e):
            raise ValueError("an expected error needs at least one labelled reference row")
        if not np.isin(e, (0, 1)).all():
            raise ValueError("errors are 0 (right) or 1 (wrong)")
        n = len(e)
        if odd := [name for name, c in slices.items() if len(c.codes) != n]:
            raise ValueError(f"column {odd[0]!r} is not of {n} rows")
        places = {name: _frequent(codes) for name, codes in slices.items()}
        columns = [c.codes for c in places.values()]
        sizes = [len(c.values) for c in places.values()]
        edges = _edges(confidence)
        if edges:
            columns.append(_binned(np.asarray(confidence), edges))
            sizes.append(len(edges) + 1)
        mean = max(float(e.mean()), SMALLEST_RATE)
        fitted = _rake(columns, sizes, e, mean)
        named = {
            name: {v: round(float(r), 6) for v, r in zip(c.values, ratio, strict=True)}
            for (name, c), ratio in zip(places.items(), fitted, strict=False)
        }
        table = cls(
            n=n,
            errors=int(e.sum()),
            mean=mean,
            ratios=named,
            edges=edges,
            bins=tuple(round(float(r), 6) for r in fitted[-1]) if edges else (),
        )
        mu = table.of(slices, confidence, rows=n)
        found = [
            s for name, codes in places.items() for s in _references(name, codes, e, mu, ordered)
        ]
        found.sort(key=lambda s: (-s.n, s.name))
        return replace(table, slices=tuple(found[:MOST_SLICES]))

    def of(
        self,
        slices: Mapping[str, Codes],
        confidence: NDArray[np.floating] | None = None,
        *,
        rows: int,
    ) -> NDArray[np.float64]:
        """Expected error of some rows.

        Parameters
        ----------
        slices
            Column -> ``(rows,)`` values; a missing column counts as if its values were.
        confidence
            ``(rows,)``; NaN where unknown.

        Returns
        -------
        numpy.ndarray
            ``(rows,) float64`` in [.0005, .95].
        """
        mu = np.full(rows, self.mean)
        for name, ratios in self.ratios.items():
            if (codes := slices.get(name)) is not None:
                ratio = np.array([*(ratios.get(v, 1.0) for v in codes.values), 1.0])
                mu *= ratio[codes.codes]  # missing, -1, is the last
        if self.edges and confidence is not None:
            bins = np.array([*self.bins, 1.0])
            mu *= bins[_binned(np.asarray(confidence), self.edges)]
        return np.asarray(np.clip(mu, SMALLEST_RATE, LARGEST))

    def tested(self, slices: Mapping[str, Codes], *, rows: int) -> NDArray[np.int8]:
        """In which slices that have a test some rows are.

        Returns
        -------
        numpy.ndarray
            ``(rows, len(columns)) int8`` index into ``slices`` per column; -1: in none.
        """
        columns = self.columns
        out = np.full((rows, len(columns)), -1, np.int8)
        index = {(s.column, s.value): i for i, s in enumerate(self.slices)}
        for j, name in enumerate(columns):
            if (codes := slices.get(name)) is not None:
                table = [index.get((name, v), -1) for v in codes.values]
                out[:, j] = np.array([*table, -1], np.int8)[codes.codes]
        return out

    def to_json(self) -> str:
        """As stored in ``profiles.expected_error``."""
        return numbered_json.to_json(self, name="expected", number=FORMAT)

    @classmethod
    def from_json(cls, data: str | bytes) -> ExpectedError:
        """Read what ``to_json`` wrote.

        Raises
        ------
        StateError
            If it is no table of expected errors, or of a newer format.
        """
        return numbered_json.from_json(
            data, cls, name="expected", number=FORMAT, what="expected errors"
        )


def _frequent(codes: Codes) -> Codes:
    """The column with its most frequent values only; of equals, those that come first."""
    counts = np.bincount(codes.codes[codes.codes >= 0], minlength=len(codes.values))
    most = np.sort(np.argsort(-counts, kind="stable")[:MOST_VALUES])
    most = most[counts[most] > 0]
    table = np.full(len(codes.values) + 1, -1, np.int32)
    table[most] = np.arange(len(most), dtype=np.int32)
    return Codes(table[codes.codes], tuple(codes.values[i] for i in most.tolist()))


def _edges(confidence: NDArray[np.floating] | None) -> tuple[float, ...]:
    if confidence is None:
        return ()
    known = np.asarray(confidence)[np.isfinite(confidence)]
    if not len(known):
        return ()
    edges = np.unique(np.quantile(known, np.arange(1, CONFIDENCE_BINS) / CONFIDENCE_BINS))
    return tuple(float(np.float32(x)) for x in edges)


def _binned(confidence: NDArray[np.floating], edges: tuple[float, ...]) -> NDArray[np.int32]:
    found = np.searchsorted(np.array(edges, np.float32), confidence.astype(np.float32), "right")
    return np.where(np.isnan(confidence), -1, found).astype(np.int32)


def _rake(
    columns: list[NDArray[np.int32]], sizes: list[int], e: NDArray[np.float64], mean: float
) -> list[NDArray[np.float64]]:
    """Ratios per column: each round brings the expected errors of each value to those seen."""
    ratios = [np.ones(size) for size in sizes]
    mu = np.full(len(e), mean)
    for _ in range(ROUNDS):
        for j, (codes, size) in enumerate(zip(columns, sizes, strict=True)):
            there = codes >= 0
            own = codes[there]
            without = mu[there] / ratios[j][own]
            seen = np.bincount(own, weights=e[there], minlength=size)
            asked = np.bincount(own, weights=without, minlength=size)
            ratios[j] = (seen + PRIOR_ERRORS) / (asked + PRIOR_ERRORS)
            mu[there] = without * ratios[j][own]
    return ratios


def _references(
    name: str, codes: Codes, e: NDArray[np.float64], mu: NDArray[np.float64], ordered: bool
) -> list[SliceReference]:
    there = codes.codes >= 0
    own, size = codes.codes[there], len(codes.values)
    n = np.bincount(own, minlength=size)
    k = np.bincount(own, weights=e[there], minlength=size).astype(np.float64)
    expected = np.bincount(own, weights=mu[there], minlength=size)
    if size < 2:
        return []
    bounds = _upper(k, n.astype(np.float64))
    out = []
    for i in np.flatnonzero(n >= LEAST_ROWS).tolist():
        mine = e[codes.codes == i] if ordered and n[i] >= OWN_INFLATION_ROWS else None
        out.append(
            SliceReference(
                column=name,
                value=codes.values[i],
                n=int(n[i]),
                errors=int(k[i]),
                expected=float(expected[i] / n[i]),
                upper=float(bounds[i]),
                inflation=((1.0, 1.0),)
                if not ordered
                else (None if mine is None else inflation(mine)),
            )
        )
    return out


def _upper(k: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper bounds of the errors of one column's slices: beta-binomial empirical Bayes, with the
    spread between slices by the method of moments."""
    from scipy.special import betaincinv

    total = float(n.sum())
    mean = min(max(float(k.sum()) / total, SMALLEST_RATE), LARGEST)  # else a prior has no bound
    used = n > 0
    rates = k[used] / n[used]
    between = float((n[used] * (rates - mean) ** 2).sum()) - (used.sum() - 1) * mean * (1 - mean)
    between /= max(total - float((n**2).sum()) / total, 1e-9)
    weight = PRIOR_ROWS
    if between > 0:
        weight = min(PRIOR_ROWS, max(mean * (1 - mean) / between - 1, 2 / max(mean, 1e-3)))
    bound = betaincinv(k + mean * weight, n - k + (1 - mean) * weight, 1 - MISS)
    return np.clip(np.asarray(bound, np.float64), SMALLEST_RATE, LARGEST)
