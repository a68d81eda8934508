"""Reference rows, from which an input profile is built: bin edges, histograms, ranges, categories,
and how far stretches of them differ; and, where they have labels, what errors to expect."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from redistill.streams.monitor.counts import Counts, EdgeLayout, columns, confidence, count
from redistill.streams.monitor.distance import DISTANCES, Histograms
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.input_profile import (
    QUANTILES,
    WINDOW_ROWS,
    Bins,
    Column,
    Profile,
    ReferenceVariability,
    Role,
    between,
)
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema

__all__ = [
    "SUBWINDOW_ROWS",
    "build_profile",
    "expected_error",
    "outside",
    "quantiles_of",
    "slope",
]

SUBWINDOW_ROWS = 500
"""Rows of a subwindow, after which blatant breaks of the contract are looked for."""
COARSE_BINS = 20
"""Quantile bins of the distances of a number."""
WIDE_MODEL = 500
"""Features from which on there are only half as many, to stay below 1 MB."""
CATEGORY_BINS = 20
"""Most frequent values of a category that have a bin of their own in the distances."""
SPREAD = (0.25, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""Edges around the median, in interquartile ranges: where a column lands that moved."""
OCTAVES = 20
"""Powers of two above and below, where it lands that changed its unit: a factor of up to a million
has edges on both sides of it, close enough to tell it."""
LARGEST = float(np.finfo(np.float32).max) / 4
"""Numbers beyond it count as it when quantiles are drawn."""
MANY_DISTINCT = 1_000
"""Different values are counted up to here."""


def build_profile(block: PredictionBlock, schema: Schema, *, provisional: bool = False) -> Profile:
    """Learn what is normal from reference rows.

    Parameters
    ----------
    block
        Reference rows, in time order if they have one; 10 rows are enough to go on with, though
        they tell little.
    schema
        The model's features. Declared bounds and category values are taken from it.
    provisional
        The rows come from traffic and nobody vouched for them.
    """
    classes = schema.classes or _classes(block)
    values = columns(block, schema.names, classes)
    features = [
        *schema.features,
        Feature(name="prediction", kind="category" if classes else "float", values=classes),
        Feature(name="score", kind="float"),
    ]
    wide = len(schema.features) > WIDE_MODEL
    drafts = [_column(values[j], f, wide=wide) for j, f in enumerate(features)]
    profile = Profile(
        schema=schema,
        classes=classes,
        rows=len(block),
        columns=tuple(drafts),
        provisional=provisional,
    )
    return _with_variability(profile, values)


def expected_error(
    block: PredictionBlock,
    slices: Mapping[str, Codes],
    errors: NDArray[np.generic],
    known: NDArray[np.bool_],
    *,
    ordered: bool,
) -> ExpectedError | None:
    """What errors to expect of which rows: of the very rows that a base error is measured on.

    Parameters
    ----------
    block
        Reference rows with the version's honest answers.
    slices
        Column -> ``(n,)`` values.
    errors
        ``(n,)`` whether the answer was wrong; any value where that is not known.
    known
        ``(n,)`` which rows have a label.
    ordered
        Whether the rows stand in the order of time.

    Returns
    -------
    ExpectedError or None
        ``None``: no slice has rows enough for a test.

    Examples
    --------
    >>> import numpy as np
    >>> from redistill.streams.wire.block import bare
    >>> block = bare("m", "v", ["r"] * 400, np.zeros(400, np.int64), Codes.of(["yes"] * 400))
    >>> wrong, known = np.arange(400) % 10 == 0, np.ones(400, np.bool_)
    >>> region = {"region": Codes.of(["EU", "EU", "EU", "US"] * 100)}
    >>> table = expected_error(block, region, wrong, known, ordered=False)
    >>> table.errors, [(s.name, s.n) for s in table.slices]
    (40, [('region=EU', 300), ('region=US', 100)])
    >>> expected_error(block, region, wrong, np.arange(400) < 100, ordered=False) is None
    True
    """
    if not known.any():
        return None
    fitted = ExpectedError.fit(
        np.asarray(errors)[known].astype(np.int64),
        {name: Codes(c.codes[known], c.values) for name, c in slices.items()},
        confidence(block)[known],
        ordered=ordered,
    )
    return fitted if fitted.slices else None


def _with_variability(profile: Profile, values: NDArray[np.float32]) -> Profile:
    """The profile with how far stretches of its own rows differ."""
    subwindows = [
        count(values[:, i : i + SUBWINDOW_ROWS], profile.layout)
        for i in range(0, values.shape[1] - SUBWINDOW_ROWS + 1, SUBWINDOW_ROWS)
    ]
    if len(subwindows) < 2:
        return profile
    usual = _usual_distances(subwindows, profile.bins, profile.layout)
    columns = [
        structs.replace(
            c,
            variability=_variability(j, c, subwindows, profile.layout, values[j], float(distance)),
        )
        for (j, c), distance in zip(enumerate(profile.columns), usual, strict=True)
    ]
    return Profile(
        schema=profile.schema,
        classes=profile.classes,
        rows=profile.rows,
        columns=tuple(columns),
        provisional=profile.provisional,
    )


def _classes(block: PredictionBlock) -> tuple[str, ...]:
    if not isinstance(block.prediction, Codes):
        return ()
    used = np.bincount(block.prediction.codes[block.prediction.codes >= 0])
    return tuple(block.prediction.values[i] for i in np.flatnonzero(used))


def _column(x: NDArray[np.float32], feature: Feature, *, wide: bool) -> Column:
    """What one column of the reference says, without how far its stretches differ."""
    valid = x[~np.isnan(x)]
    n = len(valid)
    distinct, counts = np.unique(valid, return_counts=True)
    top = float(counts.max() / n) if n else 0.0
    groups: tuple[int, ...] = ()
    quantiles: tuple[float, ...] = ()
    low = high = 0.0
    once = 0
    role: Role = "number"
    if feature.kind == "category":
        role = "category"
        k = len(feature.values)
        edges = np.arange(k + 1, dtype=np.float32) - np.float32(0.5)
        groups = _groups(valid, k)
        if n >= 20 and len(distinct) > n / 2:
            role = "identifier"
        once = int((counts == 1).sum())
        coarse = np.arange(len(edges))
    else:
        # A model's own sentinels may be as large: their differences must stay finite.
        valid = np.clip(valid, -LARGEST, LARGEST)
        edges, coarse = _edges(valid, 10 if wide else COARSE_BINS, _declared(feature))
        if n:
            low, high = (float(q) for q in np.quantile(valid, (0.005, 0.995)))
            quantiles = tuple(float(q) for q in np.quantile(valid, QUANTILES))
        if _is_clock(valid, len(distinct)):
            role = "clock"
    below = np.searchsorted(np.sort(valid), edges)
    return Column(
        name=feature.name,
        role=role,
        edges=tuple(edges.tolist()),
        below=tuple(below.tolist()),
        coarse=tuple(coarse.tolist()),
        groups=groups,
        valid=n,
        missing=len(x) - n,
        distinct=min(len(distinct), MANY_DISTINCT),
        top=top,
        once=once,
        quantiles=quantiles,
        low=low,
        high=high,
        minimum=feature.minimum,
        maximum=feature.maximum,
    )


def _is_clock(valid: NDArray[np.float32], distinct: int) -> bool:
    """Whether the values grow (or fall) from row to row: a time, a counter."""
    if len(valid) < 20 or distinct < 10:
        return False
    steps = np.diff(valid)
    return bool((steps >= 0).mean() >= 0.999 or (steps <= 0).mean() >= 0.999)


def _groups(valid: NDArray[np.float32], k: int) -> tuple[int, ...]:
    """Bin of each interval of a category: unseen and rare values share one, the frequent ones have
    their own."""
    counts = np.bincount(valid[valid >= 0].astype(np.int64), minlength=k)[:k]
    frequent = set(np.argsort(-counts, kind="stable")[:CATEGORY_BINS].tolist())
    own = iter(range(1, CATEGORY_BINS + 1))
    bins = [next(own) if i in frequent else 0 for i in range(k)]
    return (0, *bins, 0)  # below the first edge: unseen; above the last: never


def _declared(feature: Feature) -> NDArray[np.float32]:
    """Edges that tell how many values are below the declared minimum and above the declared
    maximum."""
    bounds = []
    if feature.minimum is not None:
        bounds.append(np.float32(feature.minimum))
    if feature.maximum is not None:
        bounds.append(np.nextafter(np.float32(feature.maximum), np.float32(np.inf)))
    return np.array(bounds, np.float32)


def _edges(
    valid: NDArray[np.float32], bins: int, declared: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Edges of a number's counts, and the indices of those that bound the bins of its distances."""
    if not len(valid):
        return np.unique(np.append(declared, np.float32(0))), np.zeros(1, np.int64)
    marks = np.unique(np.quantile(valid, np.arange(1, bins) / bins).astype(np.float32))
    # a value that fills several quantiles gets a bin of its own: up to it, it, beyond it
    marks = np.unique(
        np.concatenate([marks, np.nextafter(marks, np.float32(np.inf))[_heavy(valid, marks)]])
    )
    extra = _far_edges(valid, 2 if bins < COARSE_BINS else 1)
    with np.errstate(over="ignore"):
        extra = extra.astype(np.float32)
    edges = np.unique(np.concatenate([marks, extra[np.isfinite(extra)], declared]))
    return edges, np.searchsorted(edges, marks)


def _far_edges(valid: NDArray[np.float32], step: int) -> NDArray[np.float64]:
    """Where values lie that changed their unit. Those of one sign keep it, whatever the factor, and
    zeros stay zeros; ``step``: powers of two from edge to edge."""
    q1, median, q3 = np.quantile(valid.astype(np.float64), (0.25, 0.5, 0.75))
    near = np.array(SPREAD) * (q3 - q1)
    around = np.concatenate([median - near, median + near])
    some = valid[valid != 0]
    if not len(some) or some.min() == some.max():
        return np.array([], np.float64)
    if some.min() > 0 or some.max() < 0:
        usual = float(np.median(some))
        around = around[around / usual > 0]
        return np.append(around, usual * 2.0 ** np.arange(-OCTAVES, OCTAVES + 1, step))
    if q3 <= q1:
        return np.array([], np.float64)
    far = (q3 - q1) * 2.0 ** np.arange(5, OCTAVES + 1, step)
    close = (q3 - q1) * 2.0 ** -np.arange(4, OCTAVES + 1, 2.0 * step)
    return np.concatenate([around, median - far, median + far, median - close, median + close])


def _heavy(valid: NDArray[np.float32], marks: NDArray[np.float32]) -> NDArray[np.bool_]:
    ordered = np.sort(valid)
    share = (ordered.searchsorted(marks, "right") - ordered.searchsorted(marks)) / len(valid)
    return np.asarray(share >= 0.05)


def quantiles_of(
    below: NDArray[np.int64], valid: int, edges: NDArray[np.float32], low: float, high: float
) -> NDArray[np.float64]:
    """Quantiles at ``QUANTILES`` from counts below edges, interpolated between edges; ``low`` and
    ``high`` bound them."""
    x = np.concatenate([[min(low, float(edges[0]))], edges, [max(high, float(edges[-1]))]])
    y = np.concatenate([[0], below, [valid]])
    first = np.searchsorted(y, 0, "right") - 1  # the last edge with nothing below it
    last = np.searchsorted(y, valid)  # the first edge with everything below it
    x, y = x[first : last + 1].astype(np.float64), y[first : last + 1]
    if len(x) == 1:
        return np.full(len(QUANTILES), x[0])
    x[0], x[-1] = max(x[0], low), min(x[-1], high)
    return np.asarray(np.interp(np.array(QUANTILES) * valid, y, x))


def outside(
    below: NDArray[np.int64], valid: int, edges: NDArray[np.float32], low: float, high: float
) -> float:
    """Share of values outside ``low`` to ``high``, as far as the edges tell (never too much)."""
    if not valid:
        return 0.0
    i = int(np.searchsorted(edges, low, "right")) - 1
    j = int(np.searchsorted(edges, high, "right"))
    under = int(below[i]) if i >= 0 else 0
    over = valid - int(below[j]) if j < len(edges) else 0
    return (under + over) / valid


def _usual_distances(
    subwindows: list[Counts], bins: Bins, layout: EdgeLayout
) -> NDArray[np.float64]:
    """PSI of windows of the reference against the whole: its 95% quantile per column."""
    per_window = WINDOW_ROWS // SUBWINDOW_ROWS
    psi = []
    for i in range(0, len(subwindows) - per_window + 1, per_window):
        window = subwindows[i]
        for subwindow in subwindows[i + 1 : i + per_window]:
            window = window.plus(subwindow)
        histogram = np.bincount(
            bins.source,
            weights=between(window.below, window.valid, layout.offsets),
            minlength=len(bins.reference),
        ).astype(np.float64)
        compared = Histograms(bins.reference, histogram, bins.starts, bins.sizes)
        psi.append(DISTANCES["psi"].of(compared))
    if not psi:
        return np.zeros(layout.columns)
    return np.asarray(np.quantile(np.array(psi), 0.95, axis=0))


def _variability(
    j: int,
    column: Column,
    subwindows: list[Counts],
    layout: EdgeLayout,
    x: NDArray[np.float32],
    distance: float,
) -> ReferenceVariability:
    own = slice(int(layout.offsets[j]), int(layout.offsets[j + 1]))
    missing = max(1 - int(s.valid[j]) / s.rows for s in subwindows)
    full = [s for s in subwindows if s.valid[j] >= SUBWINDOW_ROWS // 4]
    constant = any(s.low[j] == s.high[j] for s in full)
    if column.role == "category":
        return ReferenceVariability(
            missing=missing, unseen=_novelty(x), constant=constant, distance=distance
        )
    width = column.quantiles[3] - column.quantiles[1] if column.quantiles else 0.0
    if width <= 0 or not full:
        return ReferenceVariability(missing=missing, constant=constant, distance=distance)
    edges = layout.edges[j]
    reference = np.array(column.quantiles)
    shapes = np.array(
        [
            quantiles_of(s.below[own], int(s.valid[j]), edges, float(s.low[j]), float(s.high[j]))
            for s in full
        ]
    )
    slopes = [slope(reference, shape)[0] for shape in shapes]
    medians = shapes[:, 2]
    return ReferenceVariability(
        missing=missing,
        scale_low=min(1.0, *slopes) if len(slopes) > 1 else min(1.0, slopes[0]),
        scale_high=max(1.0, *slopes) if len(slopes) > 1 else max(1.0, slopes[0]),
        shift=float(np.abs(medians - reference[2]).max() / width),
        jump=float(np.abs(np.diff(medians)).max(initial=0.0) / width),
        outside=max(
            outside(s.below[own], int(s.valid[j]), edges, column.low, column.high) for s in full
        ),
        constant=constant,
        distance=distance,
    )


def _novelty(x: NDArray[np.float32]) -> float:
    """Largest share of the values of a subwindow of the second half that were never seen before."""
    half = max(1, len(x) // SUBWINDOW_ROWS // 2) * SUBWINDOW_ROWS
    known = set(np.unique(x[:half][~np.isnan(x[:half])]).tolist())
    worst = 0.0
    for i in range(half, len(x) - SUBWINDOW_ROWS + 1, SUBWINDOW_ROWS):
        subwindow = x[i : i + SUBWINDOW_ROWS]
        subwindow = subwindow[~np.isnan(subwindow)]
        if len(subwindow):
            values, counts = np.unique(subwindow, return_counts=True)
            new = [v not in known for v in values.tolist()]
            worst = max(worst, float(counts[new].sum() / len(subwindow)))
            known.update(values.tolist())
    return worst


def slope(
    reference: NDArray[np.float64], window: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Least-squares line that maps the reference's quantiles to a window's: slope, intercept, and
    share explained.

    Examples
    --------
    >>> [round(v, 6) for v in slope(np.array([-1.0, 0.0, 2.0]), np.array([1.4, 3.2, 6.8]))]
    [1.8, 3.2, 1.0]
    """
    rx, wx = reference - reference.mean(), window - window.mean()
    var = float(rx @ rx)
    spread = float(wx @ wx)
    a = float(rx @ wx) / var if var > 0 else 1.0
    b = float(window.mean() - a * reference.mean())
    explained = 1.0 if spread == 0 else float((a * rx) @ (a * rx)) / spread
    return a, b, min(explained, 1.0)
