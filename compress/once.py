"""The same door as ``pipeline``, for a process that does one job and ends.

``pipeline.warm`` loads the exporter, which pays only where many jobs follow: loaded from here, a
process is ready three seconds earlier.
"""

from __future__ import annotations

from compress.pipeline import run

__all__ = ["run"]
