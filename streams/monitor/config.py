"""Settings of one model's monitoring: the part of ``model.toml`` that stream workers read, as JSON
in SQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from redistill.decodable import decodable
from redistill.streams.monitor.label_trust import Cutover
from redistill.streams.wire.block import Schema

__all__ = ["CompareWith", "DistanceName", "Level", "WatchConfig"]

DistanceName = Literal["psi", "js", "wasserstein", "ks"]
"""Of ``distance.DISTANCES``."""
CompareWith = Literal["profile", "recent"]
Level = Literal["watch", "rollback", "repair"]


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class WatchConfig:
    """One model's settings of watching. Pure data; ``workers.models.spec`` makes it,
    ``specs.watch`` stores it."""

    model: str
    level: Level = "watch"
    task: Literal["classification"] = "classification"
    schema: Schema
    label_sources: tuple[str, ...] = ()
    """Sources that detectors and gates believe, best first; empty: all, by time."""
    bound_sources: tuple[str, ...] = ()
    """Sources that are believed on topics of their own only, best first; not empty: nobody else is
    (``redistill.streams.monitor.label_trust``)."""
    cutover: Cutover = field(default_factory=Cutover)
    wait_days: float = 30.0
    """How long a label may take; join rows live as long."""
    requests_per_day: int = 0
    """Labels that may be asked for in a day (UTC); 0: none."""
    label_cost: float = 0.0
    """Of one label, in a currency of the owner's."""
    label_cost_per_day: float | None = None
    """Most that the labels asked for in a day may cost; ``None``: no such limit."""
    tolerance_points: float = 1.0
    """Loss of accuracy, in percentage points, that nobody need be woken for."""
    strictness: float = 0.0
    """Null hypothesis of harm = upper bound of the base error + strictness x tolerance (0 to 1)."""
    window_rows: int = 2_000
    """Rows of one window of distances and accuracy."""
    window_seconds: float = 3_600.0
    """A window also closes after this much event time, so that stopped traffic is seen."""
    distance: DistanceName = "psi"
    """By which the features that a finding names are compared."""
    compare_with: CompareWith = "profile"
    """What they are compared with: the profile of the version, which is of its registration or its
    release; or the last windows without a finding."""
    confidence_delta: float = 1e-5
    """River ADWIN on confidence."""
    error_delta: float = 1e-3
    """River ADWIN on the error, for models without a reference."""
    rows_per_alarm: float = 1e6
    """Rows per promised false alarm; times the label share = labels per false alarm."""
    join_rows_per_second: float = 2_000.0
    """Cap on stored join rows; above it a uniform sample is kept."""
    feature_rows_per_second: float = 500.0
    """Cap on stored feature rows, nested in the join rows. A row can judge a candidate only if its
    features were stored before anybody knew that it would get a label."""
    feature_megabytes: float = 256.0
    """Stored feature rows of one model: the oldest go first."""
    store_features: tuple[str, ...] | None = None
    """Features that may be stored; ``None``: all."""
    retention_days: float = 30.0
    seed: int = 0

    def to_json(self) -> bytes:
        """As stored in ``specs.watch``."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> WatchConfig:
        """Read what ``to_json`` wrote; unknown keys are ignored, wrong values raise
        ``msgspec.ValidationError``."""
        return msgspec.json.decode(data, type=cls)
