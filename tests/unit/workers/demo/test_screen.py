"""The same beats on a terminal, in a log, and for programs."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from redistill.workers.demo.screen import Beat, JsonScreen, LineScreen, Live, Picture, RichScreen
from redistill.workers.demo.world import ServiceStats

BEATS = (
    Beat(at=1.26, scene="opening", what="broker", text="in memory"),
    Beat(at=2.0, scene="veil", what="finding", text="harm found", facts={"labels": 22}),
    Beat(at=2.5, scene="veil", what="incident", text="opened"),
)


def test_lines_carry_time_and_scene_once() -> None:
    out = io.StringIO()
    screen = LineScreen(out)
    for beat in BEATS:
        screen.say(beat)
    assert out.getvalue().splitlines() == [
        "--- opening",
        "   1.3 s  in memory",
        "--- veil",
        "   2.0 s  harm found",
        "   2.5 s  opened",
    ]


def test_json_lines_carry_every_fact() -> None:
    out = io.StringIO()
    screen = JsonScreen(out)
    for beat in BEATS:
        screen.say(beat)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["broker", "finding", "incident"]
    assert lines[1] == {
        "at": 2.0, "scene": "veil", "event": "finding", "text": "harm found", "labels": 22
    }  # fmt: skip


def test_terminal_shows_services_and_keeps_the_story() -> None:
    out = io.StringIO()
    screen = RichScreen(Console(file=out, force_terminal=True, width=100, highlight=False))
    stats = ServiceStats(
        service="north", at=1.0, requests=1234, failed=2, version="r1-abc", epoch=2, tallies=[],
        logged=1234, sent=1234, dropped=0, predict_us=81.4,
    )  # fmt: skip
    for n in range(6):
        screen.show(
            Live(at=n / 2, scene="veil", doing="waiting", services=(stats,), correct=n / 5,
                 measured=(0.5, 30))
        )  # fmt: skip
        if n == 3:
            screen.say(BEATS[1])
    screen.close()
    text = out.getvalue()
    assert "harm found" in text
    for shown in ("north", "r1-abc", "1,234", "81 µs", "measured on 30 labels", "waiting", "█"):
        assert shown in text


def test_picture_holds_the_story_and_fetches_nothing(tmp_path: Path) -> None:
    out = io.StringIO()
    screen = Picture(LineScreen(out), tmp_path / "demo.svg")
    for beat in BEATS:
        screen.say(beat)
    screen.close()
    svg = (tmp_path / "demo.svg").read_text()
    assert svg.startswith("<svg")
    assert "harm" in svg
    assert "cdn" not in svg
    assert "harm found" in out.getvalue()
