"""What a replay finds on generated streams of fixed seeds, to the row: a change of any part of
detection that changes what is found shows here, and has to be meant. How good that is, over many
seeds, is measured by ``make bench-detection``.
"""

from __future__ import annotations

from typing import Any

import pytest
from detectbench.cases import SUITES
from scenarios import SCENARIOS, make

from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.run import run_replay

BY_NAME = {s.name: s for s in SCENARIOS}
ASKING = {"label_rate": 0.08, "label_requests": 0.07}
RANDOM = {"label_rate": 0.15}


Opened = list[tuple[int, str, str | None]]


def found(name: str, seed: int, **labels: float) -> tuple[Opened, int]:
    """Rows and scopes of harm that opened, and the slice that it was blamed on; and how many rows
    were asked for."""
    lines: list[dict[str, Any]] = []
    sliced = [c for c in SUITES["slices"] if c.name == name]
    drawn = sliced[0].draw(seed) if sliced else make(BY_NAME[name], seed)
    options = ReplayOptions(
        scores=("score_a", "score_b"), label_delay=500, seed=seed, tolerance_points=2, **labels
    )
    run_replay(drawn.stream, drawn.reference, options, write=lines.append)
    used = lines[-1]["summary"]["label_requests"]
    opened = [
        (line["row"], line["scope"], line["localised_to"])
        for line in lines
        if line.get("kind") == "accuracy" and line["status"] == "open"
    ]
    return opened, used["asked"] if used else 0


@pytest.mark.parametrize(
    ("name", "seed", "labels", "opened", "asked"),
    [
        ("stationary", 0, ASKING, [], 478),
        (
            "abrupt +5",
            0,
            ASKING,
            [(13176, "slice:channel=shop", None)],
            1400,
        ),
        (
            "abrupt +5",
            0,
            RANDOM,
            [
                (14721, "slice:channel=shop", None),
                (16423, "slice:channel=app", "channel=app"),
                (19999, "all", None),
            ],
            0,
        ),
        ("abrupt +10", 1, ASKING, [(12099, "slice:region=EU", None), (13149, "all", None)], 673),
        ("recurring", 1, ASKING, [(11099, "all", None)], 540),
        ("errors in runs", 1, ASKING, [(16449, "all", None)], 672),
        ("5% flipped", 0, ASKING, [(12849, "slice:cell=c0", "cell=c0")], 1393),
    ],
)
def test_what_is_found_is_found_in_the_same_row(
    name: str, seed: int, labels: dict[str, float], opened: Opened, asked: int
) -> None:
    assert found(name, seed, **labels) == (opened, asked)
