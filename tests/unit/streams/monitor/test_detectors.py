"""River: ADWIN goes on where it was stored, and nothing but River's own classes is unpickled."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from river import drift

from redistill.streams.errors import StateError
from redistill.streams.monitor import detectors
from redistill.streams.monitor.detectors import ConfidenceWatch


def test_adwin_round_trip_goes_on_as_if_nothing_had_happened() -> None:
    rng = np.random.default_rng(1)
    original = detectors.adwin(0.002)
    for x in rng.random(1_000).tolist():
        original.update(x)
    restored = detectors.unpickle(pickle.dumps(original))
    for x in (rng.random(1_000) + 0.5).tolist():
        original.update(x)
        restored.update(x)
        assert original.drift_detected == restored.drift_detected
    assert original.estimation == restored.estimation


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("unpickled",)


@pytest.mark.parametrize("thing", [_Evil(), drift.PageHinkley()], ids=["function", "other class"])
def test_bytes_may_name_no_other_class(thing: object) -> None:
    with pytest.raises(StateError, match="not allowed"):
        detectors.unpickle(pickle.dumps(thing))


def test_bytes_that_are_no_pickle_are_refused() -> None:
    with pytest.raises(StateError, match="cannot be read"):
        detectors.unpickle(b"no pickle")


def test_copy_is_independent() -> None:
    original = detectors.adwin(0.002)
    twin = detectors.copy(original)
    twin.update(1.0)
    assert (original.width, twin.width) == (0, 1)
    assert pickle.dumps(original) != pickle.dumps(twin)


def test_confidence_watch_tells_a_fall_with_its_levels() -> None:
    rng = np.random.default_rng(2)
    watch = ConfidenceWatch(1e-5)
    assert watch.update(rng.uniform(0.8, 1.0, 2_000).tolist()) == []
    watch.settle()
    ((i, before, now, width),) = watch.update(rng.uniform(0.6, 0.8, 100).tolist())[:1]
    assert 5 <= i < 100
    assert before == pytest.approx(0.9, abs=0.01)
    assert now < 0.89
    assert width <= 2_100


def test_confidence_watch_fires_where_rivers_adwin_does() -> None:
    rng = np.random.default_rng(5)
    values = np.repeat(rng.uniform(0.5, 0.9, 12), 700) + rng.normal(size=8_400) * 0.05
    plain, fired = drift.ADWIN(delta=1e-5), []
    for i, value in enumerate(values.tolist()):
        plain.update(value)
        if plain.drift_detected:
            fired.append((i, plain.estimation, plain.width))
    watch, found = ConfidenceWatch(1e-5), []
    for start in range(0, 8_400, 137):
        part = values[start : start + 137].tolist()
        found += [(start + i, now, width) for i, _, now, width in watch.update(part)]
        watch = watch.copy()
    assert found == fired
    assert len(fired) >= 8
    assert watch.adwin.total == plain.total


def test_confidence_watch_of_another_river_starts_again_and_is_not_unpickled() -> None:
    plain = ConfidenceWatch(1e-5).plain()
    assert ConfidenceWatch.of({**plain, "river": "0.1", "adwin": b"no pickle"}) is None
    with pytest.raises(StateError, match="cannot be read"):
        ConfidenceWatch.of({**plain, "adwin": b"no pickle"})


def test_error_changes_tell_only_what_is_new() -> None:
    rng = np.random.default_rng(3)
    errors = np.r_[rng.random(400) < 0.05, rng.random(300) < 0.5].astype(int).tolist()
    found = detectors.error_changes(errors, 0, 1e-3)
    index, before, now, width = found[0]
    assert 400 < index < 500
    assert before < 0.1 < now
    assert 0 < width < 200
    assert detectors.error_changes(errors, index + 1, 1e-3) == found[1:]
