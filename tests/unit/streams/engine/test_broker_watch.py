"""What is said of a broker that is away or refuses: once, seldom again, and when it is back."""

from __future__ import annotations

from itertools import pairwise

from structlog.testing import capture_logs

from redistill.streams.engine.broker_watch import LONGEST_AGAIN_SECONDS, BrokerWatch
from redistill.streams.engine.health import Health
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.errors import BrokerRefused, BrokerUnavailable

AWAY, REFUSED = BrokerUnavailable("no answer"), BrokerRefused("bad password")


class Rig:
    def __init__(self) -> None:
        self.now = 0.0
        self.health, self.metrics = Health(), StreamMetrics()
        self.watch = BrokerWatch(self.health, self.metrics, clock=lambda: self.now)

    @property
    def up(self) -> float | None:
        return self.metrics.registry.get_sample_value("redistill_stream_broker_up")


def test_outage_is_said_when_it_begins_and_ends_with_its_cause() -> None:
    rig = Rig()
    with capture_logs() as said:
        rig.watch.trouble("look", AWAY)
        assert (rig.health.broker_away, rig.up, rig.watch.away) == ("no answer", 0, True)
        rig.now = 30
        rig.watch.trouble("look", AWAY)
        rig.watch.well("look")
    assert [(x["action"], x["seconds"]) for x in said] == [("broker_away", 0), ("broker_back", 30)]
    assert said[0]["error"] == "no answer"
    assert (rig.health.broker_away, rig.up, rig.watch.away) == (None, 1, False)


def test_outage_of_a_week_has_some_fifty_lines() -> None:
    rig = Rig()
    with capture_logs() as said:
        for rig.now in range(0, 7 * 86_400, 2):
            rig.watch.trouble("look", AWAY)
    assert len(said) < 60
    assert sum(x["seconds"] < 600 for x in said) == 4
    gaps = [b["seconds"] - a["seconds"] for a, b in pairwise(said)]
    assert max(gaps) <= LONGEST_AGAIN_SECONDS + 2


def test_broker_that_comes_and_goes_is_said_once_a_minute() -> None:
    rig = Rig()
    with capture_logs() as said:
        for rig.now in range(0, 600, 2):
            rig.watch.trouble("look", AWAY)
            rig.watch.well("look")
    assert len(said) == 2 * 10


def test_refusal_is_no_absence_and_said_at_once() -> None:
    rig = Rig()
    with capture_logs() as said:
        rig.watch.trouble("look", AWAY)
        rig.now = 5
        rig.watch.trouble("look", REFUSED)
    assert [x["action"] for x in said] == ["broker_away", "broker_refused"]


def test_it_is_over_when_all_that_failed_goes_well_again() -> None:
    rig = Rig()
    with capture_logs() as said:
        rig.watch.trouble("topics", REFUSED)
        rig.watch.well("look")
        assert rig.watch.away, "what goes well takes back only its own trouble"
        rig.watch.well("topics")
    assert [x["action"] for x in said] == ["broker_refused", "broker_back"]


def test_broker_that_lets_us_in_is_no_excuse_any_more() -> None:
    rig = Rig()
    rig.watch.trouble("look", AWAY)
    rig.watch.lets_in()
    assert rig.health.broker_away is None
    assert rig.watch.away, "it is not over"
