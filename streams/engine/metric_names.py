"""Names of metrics: what all of an installation's begin with, and who it is that answers."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from importlib import metadata

from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["BuildInfo", "prefix"]


def prefix(namespace: str) -> str:
    """Start of every metric's name.

    Examples
    --------
    >>> prefix(""), prefix("staging.eu-1")
    ('redistill', 'staging_eu_1_redistill')
    """
    safe = re.sub(r"[^a-zA-Z0-9_]", "_", namespace)
    return f"{safe}_redistill" if safe else "redistill"


class BuildInfo(Collector):
    """``..._build_info``: which program answers, and which process of an installation it is.

    Parameters
    ----------
    process
        ``stream``, ``repair``, ``web`` or ``alerts``.
    """

    def __init__(self, namespace: str, process: str) -> None:
        told = {
            "process": process,
            "version": metadata.version("redistill"),
            "python": platform.python_version(),
        }
        self._info = InfoMetricFamily(
            f"{prefix(namespace)}_build", "Which process answers, and its version.", value=told
        )

    def collect(self) -> Iterable[Metric]:
        """Called at each scrape."""
        return [self._info]
