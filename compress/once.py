"""Pipeline for a process that does one job and ends.

``pipeline.warm`` loads torch, which pays only where repairs follow: loaded from here, a process
that judges is ready two seconds earlier.
"""

from __future__ import annotations

from redistill.compress.pipeline import run

__all__ = ["run"]
