"""Groups of a job's rows: slices and declared groups by their values, classes by their labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from redistill.compress.plan import GraphSpec
from redistill.compress.rows import Rows

__all__ = ["bands", "by_class", "by_slice"]

MAX_VALUES = 50
"""Further values of a slice are judged together as ``other``."""

Bands = Mapping[str, NDArray[np.float32]]
"""Feature -> where it is cut."""
Masks = dict[str, NDArray[np.bool_]]
"""Name of a group -> ``(n,)`` which rows belong to it."""


def bands(rows: Rows, graph: GraphSpec) -> Bands:
    """Where slices by a number are cut: at the quartiles of these rows, equal ones once.

    Returns
    -------
    dict
        Feature -> its edges, rising, at most three; none of a feature without values.
    """
    out = {}
    for name in graph.slices:
        if name in graph.features and name not in graph.categories:
            column = rows.x[:, graph.features.index(name)]
            known = column[np.isfinite(column)]
            edges = np.quantile(known, (0.25, 0.5, 0.75)) if len(known) else np.empty(0)
            out[name] = np.unique(edges).astype(np.float32)
    return out


def by_slice(rows: Rows, graph: GraphSpec, edges: Bands) -> Masks:
    """Which rows belong to which declared slice or group.

    Parameters
    ----------
    edges
        ``bands`` of the trusted rows, so that a band is the same in every sample.

    Returns
    -------
    dict
        ``region=EU``, ``age=30..41`` (41 included) -> ``(n,)``. Rows without a value, and of
        values beyond the 50 most frequent, are ``region=other``.
    """
    out: Masks = {}
    for name, declared in graph.slices.items():
        if name in edges:
            of = _in_bands(rows.x[:, graph.features.index(name)], edges[name])
        elif name in graph.features:
            column = rows.x[:, graph.features.index(name)]
            of = {v: column == i for i, v in enumerate(declared)}
        elif name in rows.segments:
            texts = np.array(rows.segments[name], object)
            values = list(declared) or sorted({t for t in rows.segments[name] if t is not None})
            of = {v: texts == v for v in values}
        else:
            continue
        largest = sorted(of, key=lambda v: -int(of[v].sum()))[:MAX_VALUES]
        out |= {f"{name}={v}": of[v] for v in largest}
        rest = ~np.any([of[v] for v in largest], axis=0) if largest else np.ones(len(rows), bool)
        out[f"{name}=other"] = np.asarray(rest, np.bool_)
    return out


def _in_bands(column: NDArray[np.float32], edges: NDArray[np.float32]) -> Masks:
    """Bands of a number: up to the first edge, between edges, above the last."""
    bounds = [f"{edge:g}" for edge in edges.tolist()]
    names = [f"{low}..{high}" for low, high in zip(["", *bounds], [*bounds, ""], strict=True)]
    place = np.where(np.isfinite(column), np.searchsorted(edges, column, side="left"), -1)
    return {name: place == k for k, name in enumerate(names)}


def by_class(rows: Rows, graph: GraphSpec) -> Masks:
    """Which rows are of which true class: ``class=default`` -> ``(n,)``."""
    return {f"class={c}": rows.y == i for i, c in enumerate(graph.classes)}
