"""Alarm budget: one budget for all that can page, and what each test gets of it.

``A`` is the number of labels per promised false alarm of a model: rows per alarm x the share of
rows that get a label, and at least 1,000. Rows per alarm are a million over the alarms a week that
the operator accepts until a week of labelled traffic is known; from then on they are such that
``A`` is the fleet's labelled rows a week over these alarms (``workers.store.queries``). False
alarms of several tests add up, so each has a share of the budget, and a test's threshold is ``A``
over its share.
"""

from __future__ import annotations

from redistill.streams.monitor.config import WatchConfig

__all__ = ["LEAST", "SHARES", "labels_per_alarm", "slice_tests", "whole_model"]

LEAST = 1_000.0
"""Labels per false alarm are never promised to be fewer."""
SHARES = {"whole model": 1 / 2, "slices": 3 / 8, "contract": 1 / 16, "serving": 1 / 16}
"""Share of the budget of all that can page. The last two are no sequential tests: their limits are
taken from the reference, and in no stationary stream that was measured did they use up theirs."""


def labels_per_alarm(config: WatchConfig, share: float) -> float:
    """``A``: labels per promised false alarm, of all tests of a model together.

    Parameters
    ----------
    share
        Share of the rows that get a label, as in force.
    """
    return max(LEAST, config.rows_per_alarm * share)


def whole_model(config: WatchConfig, share: float) -> float:
    """Threshold of the test of the whole model: 2 A.

    Examples
    --------
    >>> from redistill.streams.wire.block import Schema
    >>> config = WatchConfig(model="credit", schema=Schema(features=()))
    >>> whole_model(config, 0.1), whole_model(config, 0.0001)
    (200000.0, 2000.0)
    """
    return labels_per_alarm(config, share) / SHARES["whole model"]


def slice_tests(config: WatchConfig, share: float, columns: int) -> float:
    """Threshold of the test of each slice. The slices of one column share its labels, so it is the
    columns that are counted.

    Examples
    --------
    >>> from redistill.streams.wire.block import Schema
    >>> config = WatchConfig(model="credit", schema=Schema(features=()))
    >>> round(slice_tests(config, 0.1, columns=3))
    800000
    """
    return labels_per_alarm(config, share) / SHARES["slices"] * max(columns, 1)
