"""Groups of rows: by the values of slices, by bands of numbers, by true classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from compress_rows import GRAPH, rows_of

from redistill.compress import groups


def test_slices_are_values_of_features_and_of_segments() -> None:
    rows = rows_of(30)
    found = groups.by_slice(rows, GRAPH, {})
    assert found["kind=x"].sum() == found["kind=y"].sum() == 15
    assert found["region=EU"].sum() == 20
    assert found["region=other"].sum() == 10


def test_classes_are_true_classes() -> None:
    rows = rows_of(30)
    found = groups.by_class(rows, GRAPH)
    assert found["class=yes"].tolist() == (rows.y == 1).tolist()


def test_rare_values_of_a_slice_are_judged_together() -> None:
    n = 3 * (groups.MAX_VALUES + 10)
    names = [f"v{i % (groups.MAX_VALUES + 10)}" for i in range(n)]
    found = groups.by_slice(rows_of(n, segments={"region": names}), GRAPH, {})
    assert sum(k.startswith("region=v") for k in found) == groups.MAX_VALUES
    assert found["region=other"].sum() == 30


def test_a_number_is_cut_at_the_quartiles_of_other_rows() -> None:
    graph = replace(GRAPH, slices={"a": ()})
    rows = rows_of(101)
    rows.x[:, 0] = np.arange(101)
    edges = groups.bands(rows, graph)
    assert edges["a"].tolist() == [25.0, 50.0, 75.0]
    later = rows_of(5)
    later.x[:, 0] = [-3.0, 25.0, 26.0, 99.0, np.nan]
    found = groups.by_slice(later, graph, edges)
    assert {name: np.flatnonzero(of).tolist() for name, of in found.items()} == {
        "a=..25": [0, 1], "a=25..50": [2], "a=50..75": [], "a=75..": [3], "a=other": [4],
    }  # fmt: skip


def test_a_number_of_few_values_has_few_bands() -> None:
    graph = replace(GRAPH, slices={"a": (), "kind": ("x", "y"), "region": ()})
    rows = rows_of(40)
    rows.x[:, 0] = np.arange(40) % 2
    edges = groups.bands(rows, graph)
    assert list(edges) == ["a"]
    found = groups.by_slice(rows, graph, edges)
    sizes = {name: int(of.sum()) for name, of in found.items() if name.startswith("a=")}
    assert sum(sizes.values()) == 40
    assert sorted(sizes.values())[-2:] == [20, 20]
    rows.x[:, 0] = np.nan
    assert groups.bands(rows, graph)["a"].tolist() == []
    assert groups.by_slice(rows, graph, groups.bands(rows, graph))["a=other"].all()
