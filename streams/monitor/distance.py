"""Distances between a window and the reference, from histograms, with the distance that chance
alone gives.

They rank columns and explain; none of them opens an incident: on real streams they alarm nearly
always while accuracy is unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, kolmogi, ndtri

__all__ = ["DISTANCES", "Histograms"]

Columns = NDArray[np.float64]
"""``(C,)``, one number per column."""


@dataclass(frozen=True, slots=False, eq=False)
class Histograms:
    """Histograms of ``C`` columns of the reference and of a window, flat, to be compared at once.

    Half a count is added to each bin, so that an empty bin makes nothing infinite.
    """

    reference: NDArray[np.float64]  # (B,) counts in the bins of all columns
    window: NDArray[np.float64]  # (B,)
    starts: NDArray[np.int64]  # (C,) first bin of each column
    sizes: NDArray[np.int64]  # (C,) bins of each column

    @cached_property
    def n(self) -> Columns:
        """Values of the reference."""
        return np.asarray(np.add.reduceat(self.reference, self.starts))

    @cached_property
    def m(self) -> Columns:
        """Values of the window."""
        return np.asarray(np.add.reduceat(self.window, self.starts))

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Columns that can be compared."""
        return np.asarray((self.n > 0) & (self.m > 0) & (self.sizes > 1))

    @cached_property
    def size(self) -> Columns:
        """``1/n + 1/m``: by how much samples of these sizes differ; infinite where there are no
        values."""
        with np.errstate(divide="ignore"):
            return np.asarray(1 / self.n + 1 / self.m)

    @cached_property
    def p(self) -> NDArray[np.float64]:
        """``(B,)`` shares in the reference."""
        return self._shares(self.reference, self.n)

    @cached_property
    def q(self) -> NDArray[np.float64]:
        """``(B,)`` shares in the window."""
        return self._shares(self.window, self.m)

    @cached_property
    def gap(self) -> NDArray[np.float64]:
        """``(B,)`` difference of the distribution functions at the end of each bin."""
        gap = np.cumsum(self.q - self.p)
        before = np.where(self.starts > 0, gap[self.starts - 1], 0.0)
        return np.asarray(gap - np.repeat(before, self.sizes))

    @property
    def rising(self) -> Columns:
        """Signed sum of the differences of the distribution functions: > 0 when values rose."""
        return np.where(self.known, -self.sum(self.gap), 0.0)

    def sum(self, bins: NDArray[np.float64]) -> Columns:
        """Sums over the bins of each column."""
        return np.asarray(np.add.reduceat(bins, self.starts))

    def _shares(self, counts: NDArray[np.float64], n: Columns) -> NDArray[np.float64]:
        return np.asarray((counts + 0.5) / np.repeat(n + self.sizes / 2, self.sizes))


def _psi(h: Histograms) -> Columns:
    return h.sum((h.q - h.p) * np.log(h.q / h.p))


def _psi_floor(h: Histograms, level: float) -> Columns:
    return np.asarray(h.size * chdtri(np.maximum(h.sizes - 1, 1), level))


def _js(h: Histograms) -> Columns:
    middle = (h.p + h.q) / 2
    return h.sum(h.p * np.log(h.p / middle) + h.q * np.log(h.q / middle)) / 2


def _js_floor(h: Histograms, level: float) -> Columns:
    return _psi_floor(h, level) / 8


def _ks(h: Histograms) -> Columns:
    return np.asarray(np.maximum.reduceat(np.abs(h.gap), h.starts))


def _ks_floor(h: Histograms, level: float) -> Columns:
    return np.asarray(np.sqrt(h.size) * kolmogi(level))


def _wasserstein(h: Histograms) -> Columns:
    # between the ends of bins the difference goes on as a straight line
    before = np.concatenate([[0.0], h.gap[:-1]])
    before[h.starts] = 0.0
    return h.sum(h.p * (np.abs(before) + np.abs(h.gap)) / 2)


def _wasserstein_floor(h: Histograms, level: float) -> Columns:
    return np.asarray(np.sqrt(h.size) * ndtri(1 - level / 2) / np.sqrt(12))


@dataclass(frozen=True, kw_only=True, slots=True)
class Distance:
    """How far a column's histogram is from the reference."""

    name: str
    """As ``Contributor.distance`` has it."""
    value: Callable[[Histograms], Columns]
    noise: Callable[[Histograms, float], Columns]
    """What an unchanged window exceeds with the given probability, if its rows are independent."""
    ordered: bool
    """Only numbers have it: the bins' order means something."""
    inflation: float
    """With so many times the variance, as of rows that depend on each other, the noise grows by
    this power of it."""
    level: float
    """Of what a shift of the level by one standard deviation makes of it, that part of the PSI
    which its own inflation does not have."""

    def moved(self, h: Histograms, apart: Columns, level: float) -> Columns:
        """What the level of a window adds, whose variance is ``1 + apart`` times that of
        independent rows: a shift by ``d`` standard deviations is a PSI of about its square."""
        size = np.where(h.known, h.size, 0.0)
        return np.asarray(self.level * apart * size * chdtri(1, level))

    def of(self, h: Histograms) -> Columns:
        """The distances; 0 for columns that are not compared."""
        return np.where(h.known, self.value(h), 0.0)

    def floor(self, h: Histograms, level: float) -> Columns:
        """The noise floors; infinite for columns that are not compared."""
        return np.where(h.known, self.noise(h, level), np.inf)


DISTANCES = {
    d.name: d
    for d in (
        Distance(name="psi", value=_psi, noise=_psi_floor, ordered=False, inflation=1.0, level=1.0),
        Distance(name="js", value=_js, noise=_js_floor, ordered=False, inflation=1.0, level=0.125),
        Distance(
            name="wasserstein",
            value=_wasserstein,
            noise=_wasserstein_floor,
            ordered=True,
            inflation=0.5,
            level=0.0,
        ),
        Distance(name="ks", value=_ks, noise=_ks_floor, ordered=True, inflation=0.5, level=0.0),
    )
}
"""All distances by their names.

``psi``
    Population stability index, the symmetrised Kullback-Leibler divergence, nats. Without a change
    ``PSI / (1/n + 1/m)`` has about a chi-squared distribution with ``bins - 1`` degrees of freedom
    (Yurdakul, Naranjo: Statistical properties of the population stability index. Journal of Risk
    Model Validation 2020).
``js``
    Jensen-Shannon divergence, nats (0 to ln 2). It is an eighth of the PSI to second order, and so
    is its floor (Grosse et al.: Analysis of symbolic sequences using the Jensen-Shannon divergence.
    Physical Review E 65, 2002).
``wasserstein``
    Wasserstein-1 in ranks of the reference: by how much of it values moved on average (0 to 1),
    whatever their unit and their tails. Without a change the integral of the absolute Brownian
    bridge, whose tail is that of a normal variable of variance 1/12 (Janson: Brownian excursion
    area, Wright's constants in graph enumeration, and other Brownian areas. Probability Surveys 4,
    2007).
``ks``
    Kolmogorov-Smirnov: largest difference of the distribution functions, at the bins' edges (0 to
    1). Kolmogorov's distribution is its floor, and a cautious one, since edges are few (Smirnov:
    Table for estimating the goodness of fit. Annals of Mathematical Statistics 19, 1948).

Examples
--------
>>> starts, sizes = np.array([0]), np.array([2])
>>> h = Histograms(np.array([50.0, 50.0]), np.array([80.0, 20.0]), starts, sizes)
>>> {name: round(float(d.of(h)[0]), 2) for name, d in DISTANCES.items()}
{'psi': 0.41, 'js': 0.05, 'wasserstein': 0.15, 'ks': 0.3}
"""
