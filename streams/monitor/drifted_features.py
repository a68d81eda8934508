"""Drifted features of a window, ranked: they explain a finding and never make an incident."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from redistill.streams.monitor.counts import Counts
from redistill.streams.monitor.distance import distances
from redistill.streams.monitor.input_profile import Column, Profile, between
from redistill.streams.wire.events import Contributor

__all__ = ["DriftedFeature", "drifted_features"]

OPEN_PSI, OPEN_FLOORS = 0.25, 5.0
"""A feature has drifted when its PSI is above both .25 (the customary limit) and 5 noise floors,"""
QUIET_PSI, QUIET_FLOORS = 0.1, 2.5
"""and is back when it is below either of these."""


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

    @property
    def ratio(self) -> float:
        """PSI in noise floors."""
        return self.psi / self.floor if self.floor > 0 else 0.0

    @property
    def far(self) -> bool:
        """Whether a person would say that it drifted."""
        return self.psi >= self.threshold

    @property
    def near(self) -> bool:
        """Whether it is as good as back."""
        return self.psi < max(QUIET_PSI, QUIET_FLOORS * self.floor)

    @property
    def contributor(self) -> Contributor:
        """As the event has it."""
        direction: Literal["up", "down", "mixed"] | None = None
        if self.column.role == "number":
            share = abs(self.rising) / max(self.ks, 1e-12)
            direction = "mixed" if share < 1 else "up" if self.rising > 0 else "down"
        return Contributor(
            column=self.column.name,
            distance="psi",
            value=self.psi,
            noise_floor=self.floor,
            direction=direction,
        )


def drifted_features(whole: Counts, profile: Profile) -> list[DriftedFeature]:
    """All columns of a window that can be compared, those that drifted most first."""
    bins = profile.bins
    histogram = np.bincount(
        bins.source,
        weights=between(whole.below, whole.valid, profile.layout.offsets),
        minlength=len(bins.reference),
    ).astype(np.float64)
    d = distances(bins.reference, histogram, bins.starts, bins.sizes)
    floor = np.maximum(d.floor, profile.usual_distances)
    usable = np.flatnonzero(bins.compared & (whole.valid > 0))
    order = usable[np.argsort(-(d.psi[usable] / floor[usable]), kind="stable")]
    threshold = np.maximum(OPEN_PSI, OPEN_FLOORS * floor)
    numbers = (a[order] for a in (d.psi, d.ks, floor, threshold, d.rising))
    rows = zip(order.tolist(), *(n.tolist() for n in numbers), strict=True)
    return [
        DriftedFeature(
            index=j,
            column=profile.columns[j],
            psi=psi,
            ks=ks,
            floor=least,
            threshold=far,
            rising=rising,
        )
        for j, psi, ks, least, far, rising in rows
    ]
