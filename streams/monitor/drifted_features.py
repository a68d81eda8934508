"""Drifted features of a window, ranked: they explain a finding and never make an incident."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from redistill.streams.monitor.config import DistanceName
from redistill.streams.monitor.counts import Counts
from redistill.streams.monitor.distance import DISTANCES, Histograms
from redistill.streams.monitor.input_profile import Column, Profile, between
from redistill.streams.wire.events import Contributor

__all__ = ["CONTRIBUTOR_SHARE", "DriftedFeature", "drifted_features", "histogram_of"]

OPEN_PSI, OPEN_FLOORS = 0.25, 5.0
"""A feature has drifted when its PSI is above both .25 (the customary limit) and 5 noise floors,"""
QUIET_PSI, QUIET_FLOORS = 0.1, 2.5
"""and is back when it is below either of these."""
FLOOR_SHARE = 0.05
"""Share of unchanged windows in which a feature is above that noise floor."""
DEPENDENT = 1.2
"""Inflation from which on it is not chance that the reference's windows differ."""
CONTRIBUTOR_SHARE = 0.01
"""Share of unchanged windows in which any feature at all is a contributor (Bonferroni over the
features)."""


class DriftedFeature(msgspec.Struct, frozen=True, kw_only=True):
    """A feature, or the prediction or its confidence, with its distance from the reference in a
    window."""

    index: int
    """Among the profile's columns."""
    column: Column
    psi: float
    ks: float
    floor: float
    """PSI that 95% of unchanged windows of this size, and of the reference's own windows, stay
    below."""
    threshold: float
    """PSI from which on a person would say that it drifted."""
    rising: float
    distance: str = "psi"
    """By which it is told, ..."""
    value: float
    noise: float
    """... and what chance gives: unchanged windows are above it in any of all features with
    probability ``CONTRIBUTOR_SHARE``."""
    part: float
    """Of the shift of all features, 0 to 1: its PSI beyond what chance gives on average."""

    @property
    def far(self) -> bool:
        """Whether a person would say that it drifted."""
        return self.psi >= self.threshold

    @property
    def near(self) -> bool:
        """Whether it is as good as back."""
        return self.psi < max(QUIET_PSI, QUIET_FLOORS * self.floor)

    @property
    def clear(self) -> bool:
        """Whether it is clearly above what chance gives, and so a contributor."""
        return self.value > self.noise

    @property
    def contributor(self) -> Contributor:
        """As the event has it."""
        direction: Literal["up", "down", "mixed"] | None = None
        if self.column.role == "number":
            share = abs(self.rising) / max(self.ks, 1e-12)
            direction = "mixed" if share < 1 else "up" if self.rising > 0 else "down"
        return Contributor(
            column=self.column.name,
            distance=self.distance,
            value=self.value,
            noise_floor=self.noise,
            direction=direction,
        )


def drifted_features(
    whole: Counts,
    profile: Profile,
    *,
    distance: DistanceName = "psi",
    recent: Counts | None = None,
) -> list[DriftedFeature]:
    """All columns of a window that can be compared, those with the largest part in the shift first.

    Parameters
    ----------
    whole
        Counts of the window.
    profile
        The reference by which features drift.
    distance
        By which contributors are told; a category, which has no order, has the PSI where it needs
        one.
    recent
        Windows without a finding, with which contributors are compared in place of the profile.

    Notes
    -----
    The noise floors of ``distance`` hold for independent rows. Where the reference's own windows
    are further from the whole than that, as with seasons and runs, the floor grows by as much, and
    its tail is that of a single degree of freedom: what rows have in common moves bins together.
    """
    bins = profile.bins
    now = histogram_of(whole, profile)
    h = Histograms(bins.reference, now, bins.starts, bins.sizes)
    psi, ks = DISTANCES["psi"].of(h), DISTANCES["ks"].of(h)
    floor = np.maximum(DISTANCES["psi"].floor(h, FLOOR_SHARE), profile.usual_distances)
    threshold = np.maximum(OPEN_PSI, OPEN_FLOORS * floor)
    usable = bins.compared & (whole.valid > 0)
    told = h if recent is None else _against(recent, now, profile)
    inflation = profile.inflation
    level = CONTRIBUTOR_SHARE / max(1, int(usable.sum()))
    names = np.array([_name(distance, column) for column in profile.columns])
    tail = float(chdtri(1, level) / chdtri(1, FLOOR_SHARE)) / float(
        chdtri(19, level) / chdtri(19, FLOOR_SHARE)
    )
    apart = profile.level_inflation - 1
    value, noise = np.zeros(len(psi)), np.full(len(psi), np.inf)
    for name in set(names.tolist()):
        d, mine = DISTANCES[name], names == name
        value[mine] = d.of(told)[mine]
        more = profile.level_inflation if d.ordered else inflation
        more = more * np.where(more > DEPENDENT, tail, 1.0)
        floors = d.floor(told, level)
        least = np.maximum(floors * more**d.inflation, floors + d.moved(told, apart, level))
        noise[mine] = least[mine]
    shift = DISTANCES["psi"].of(told) - inflation * (bins.sizes - 1) * told.size
    shift = np.where(usable & told.known, np.maximum(shift, 0.0), 0.0)
    part = shift / max(float(shift.sum()), 1e-300)
    where = np.flatnonzero(usable)
    order = where[np.lexsort((-(psi[where] / floor[where]), -part[where]))]
    numbers = (a[order] for a in (psi, ks, floor, threshold, told.rising, value, noise, part))
    rows = zip(order.tolist(), *(n.tolist() for n in numbers), strict=True)
    return [
        DriftedFeature(
            index=j,
            column=profile.columns[j],
            psi=psi_,
            ks=ks_,
            floor=least,
            threshold=far,
            rising=rising,
            distance=str(names[j]),
            value=value_,
            noise=chance,
            part=part_,
        )
        for j, psi_, ks_, least, far, rising, value_, chance, part_ in rows
    ]


def histogram_of(counts: Counts, profile: Profile) -> NDArray[np.float64]:
    """``(B,)`` counts in the bins of the distances."""
    bins = profile.bins
    return np.bincount(
        bins.source,
        weights=between(counts.below, counts.valid, profile.layout.offsets),
        minlength=len(bins.reference),
    ).astype(np.float64)


def _against(recent: Counts, now: NDArray[np.float64], profile: Profile) -> Histograms:
    bins = profile.bins
    return Histograms(histogram_of(recent, profile), now, bins.starts, bins.sizes)


def _name(distance: DistanceName, column: Column) -> str:
    """A distance that the column has."""
    return "psi" if DISTANCES[distance].ordered and column.role == "category" else distance
