"""The demo's digits: divided once, spoiled as told, harmless where they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from redistill.workers.demo import data
from redistill.workers.errors import UsageError


@pytest.fixture(scope="module")
def digits() -> data.Digits:
    return data.load_digits(3)


def test_parts_share_no_image_and_lose_none(digits: data.Digits) -> None:
    parts = (digits.train, digits.trusted, digits.traffic)
    assert [len(p.y) for p in parts] == [750, 450, 597]
    everything = np.concatenate([p.x for p in parts])
    assert everything.shape == (1797, 64)
    assert (everything.min(), everything.max()) == (0.0, 1.0)
    whole = data.load_digits(99)
    again = np.concatenate([p.x for p in (whole.train, whole.trusted, whole.traffic)])
    order, other = np.lexsort(everything.T), np.lexsort(again.T)
    assert np.array_equal(everything[order], again[other])


def test_division_depends_on_the_seed_only(digits: data.Digits) -> None:
    assert np.array_equal(data.load_digits(3).trusted.x, digits.trusted.x)
    assert not np.array_equal(data.load_digits(4).trusted.x, digits.trusted.x)


def test_jitter_keeps_an_image_recognisable(digits: data.Digits) -> None:
    x = digits.train.x
    out = data.jitter(x, np.random.default_rng(0))
    assert out.shape == x.shape
    assert out.dtype == np.float32
    assert out.min() >= 0.0
    assert out.max() <= 1.0
    nearest = ((out[:, None] - x[None]) ** 2).sum(-1).argmin(1)
    assert (digits.train.y[nearest] == digits.train.y).mean() > 0.99
    assert not np.allclose(out, x, atol=0.05)


def test_jitter_without_movement_is_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    class Still:
        def uniform(self, low: float, high: float, size: object) -> object:
            return np.full(size, (low + high) / 2)  # type: ignore[call-overload]

    x = np.random.default_rng(1).random((5, 64), dtype=np.float32)
    assert np.allclose(data.jitter(x, Still()), x, atol=1e-6)  # type: ignore[arg-type]


def test_draw_follows_the_priors(digits: data.Digits) -> None:
    rng = np.random.default_rng(5)
    _, y = data.draw(digits.traffic, 20_000, rng, priors=data.HOLIDAY_PRIORS)
    share = np.bincount(y, minlength=10) / len(y)
    assert np.allclose(share, data.class_weights(data.HOLIDAY_PRIORS), atol=0.015)


def test_draw_gives_new_jitter_each_time(digits: data.Digits) -> None:
    rng = np.random.default_rng(5)
    x, y = data.draw(digits.traffic, 2_000, rng)
    assert len(np.unique(x, axis=0)) == 2_000
    assert set(y.tolist()) == set(range(10))


def test_spoil_leaves_a_quarter_clean_and_stays_in_range(digits: data.Digits) -> None:
    x = np.tile(digits.train.x, (4, 1))
    out = data.spoil(x, np.random.default_rng(2))
    assert out.min() >= 0.0
    assert out.max() <= 1.0
    clean = (out == x).all(1).mean()
    assert 0.22 < clean < 0.28


def test_digits_file_says_what_to_install_when_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'redistill\[demo\]'"):
        data.digits_file()
