"""Limits of a machine's gates that no load of a test machine can miss."""

from __future__ import annotations

ANY_SPEED: dict[str, dict[str, float]] = {
    "latency": {
        "max_fp32_ratio": 50.0,
        "max_incumbent_ratio": 50.0,
        "max_teacher_ratio": 50.0,
    },
    "throughput": {"enough_rows_per_s": 1.0},
}
"""Sections of a policy. Models of tests are as fast as each other, or so small that the call costs
more than they do, so that a busy neighbour decided which of them was refused."""
