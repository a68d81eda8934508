"""Who is owed what: a channel is driven by plans alone, through routes, holds, storms and quiet hours."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from alert_rows import NOW, alert
from hypothesis import example, given
from hypothesis import strategies as st

from redistill.times import DAY, HOUR, MINUTE, SECOND
from redistill.workers.alerts import delivery, storms
from redistill.workers.alerts.alert import CHANNEL_FAILING, Alert
from redistill.workers.alerts.alerts_file import AlertsConfig, Quiet, Route, Storm
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.alerts.failing import failing
from redistill.workers.alerts.planning import Facts, Plan, Traits, plan
from redistill.workers.incidents.broken_feeds import Breakage
from redistill.workers.store.alert_deliveries import PLANNED, Delivery
from redistill.workers.store.alert_holds import Hold

CHANNELS: dict[str, dict[str, object]] = {"oncall": {}, "team": {}}
SETTLED = Storm(alerts=3, within_seconds=60, settle_seconds=0)


def config(*routes: Route, **more: Any) -> AlertsConfig:
    given = {
        "channels": CHANNELS,
        "routes": routes or (Route(channels=("oncall",)),),
        "storm": SETTLED,
    }
    return AlertsConfig(**(given | more))


class World:
    """What is stored, and channels that are told all that is due."""

    def __init__(self, setup: AlertsConfig, *, channels: dict[str, Traits] | None = None) -> None:
        self.setup = setup
        self.channels = channels or {
            "oncall": Traits(in_place=True),
            "team": Traits(in_place=False),
        }
        self.alerts: dict[str, Alert] = {}
        self.holds: dict[str, Hold] = {}
        self.storms: dict[str, str] = {}
        self.rows: dict[tuple[str, str], Delivery] = {}
        self.told: list[tuple[str, Alert]] = []
        self.now = NOW

    def round(self, *alerts: Alert, forward: int = 0) -> list[tuple[str, str, str, str]]:
        """Things as they are now; returns who was told: channel, key, state, severity."""
        self.now += forward
        self.alerts |= {a.key: a for a in alerts}
        before = len(self.told)
        made = self.plan()
        for row in made.write:
            self.rows[row.channel, row.alert_key] = row
        for key in made.delete:
            del self.rows[key]
        for channel, sendings in made.owed.items():
            for one in sendings:
                if one.delivery.not_before <= self.now:
                    row = delivery.sent(one.delivery, one.alert, now=self.now)
                    self.rows[channel, one.alert.key] = row
                    self.told.append((channel, one.alert))
        return [(c, a.key, a.state, a.severity) for c, a in self.told[before:]]

    def plan(self) -> Plan:
        self.storms |= storms.gather(self.alerts.values(), self.storms, self.setup.storm)
        facts = Facts(
            alerts=list(self.alerts.values()),
            storms=self.storms,
            holds=self.holds,
            deliveries=self.rows,
        )
        return plan(facts, self.setup, self.channels, now=self.now)


ENDED = {"state": "resolved", "resolved_at": NOW}
I1 = "incident:1"


def test_alert_is_told_once_and_then_its_end() -> None:
    world = World(config())
    assert world.round(alert()) == [("oncall", I1, "firing", "warn")]
    assert world.round(forward=HOUR) == []
    assert world.round(alert(**ENDED)) == [("oncall", I1, "resolved", "warn")]
    assert world.round(forward=HOUR) == []


def test_alert_that_ended_before_anybody_was_told_is_not_told() -> None:
    world = World(config(storm=Storm(settle_seconds=1)))
    assert world.round(alert()) == []
    assert world.round(alert(**ENDED), forward=HOUR) == []
    assert world.rows == {}


def test_incident_that_comes_back_is_told_again() -> None:
    world = World(config(Route(channels=("oncall", "team"))))
    world.round(alert())
    world.round(alert(**ENDED))
    assert [t[:3] for t in world.round(alert(), forward=MINUTE)] == [
        ("oncall", I1, "firing"), ("team", I1, "firing"),
    ]  # fmt: skip


def test_whoever_was_told_hears_of_the_end_whatever_routes_say() -> None:
    world = World(config(Route(channels=("oncall",), min_severity="page")))
    world.round(alert(severity="page"))
    assert world.round(alert(severity="warn"), forward=MINUTE) == [("oncall", I1, "firing", "warn")]
    world.setup = config(Route(channels=("team",)))
    assert ("oncall", I1, "resolved", "warn") in world.round(alert(**ENDED), forward=MINUTE)


def test_page_goes_to_who_is_next_when_nobody_acknowledges_it() -> None:
    route = Route(channels=("oncall",), escalate_after_minutes=15, escalate_to=("team",))
    world = World(config(route))
    world.round(alert())
    assert world.round(alert(severity="page"), forward=HOUR) == [("oncall", I1, "firing", "page")]
    assert world.round(forward=15 * MINUTE - 1) == []
    assert world.round(forward=1) == [("team", I1, "firing", "page")]
    world.holds[I1] = Hold(acknowledged_at=world.now, acknowledged_by="cli:ann")
    assert world.round() == [("oncall", I1, "acknowledged", "page")]
    assert {t[0] for t in world.round(alert(severity="page", **ENDED))} == {"oncall", "team"}


def test_acknowledged_page_goes_no_further() -> None:
    route = Route(channels=("oncall",), escalate_after_minutes=15, escalate_to=("team",))
    world = World(config(route))
    world.round(alert(severity="page"))
    world.holds[I1] = Hold(acknowledged_at=NOW, acknowledged_by="cli:ann")
    assert {t[0] for t in world.round(forward=10 * HOUR)} == {"oncall"}


def test_snoozed_alert_rests_and_is_told_again_at_its_end() -> None:
    world = World(config(Route(channels=("oncall", "team"))))
    world.round(alert())
    world.holds[I1] = Hold(snoozed_until=NOW + HOUR, snoozed_by="cli:ann")
    assert [t[:3] for t in world.round()] == [("oncall", I1, "acknowledged")]
    assert world.round(alert(severity="page"), forward=MINUTE) == [
        ("oncall", I1, "acknowledged", "page")
    ]
    assert {t[:3] for t in world.round(forward=HOUR)} == {
        ("oncall", I1, "firing"), ("team", I1, "firing"),
    }  # fmt: skip
    assert world.round(forward=HOUR) == []


def test_alert_that_ends_while_it_is_snoozed_is_told_to_have_ended() -> None:
    world = World(config(Route(channels=("oncall", "team"))))
    world.round(alert())
    world.holds[I1] = Hold(snoozed_until=NOW + HOUR, snoozed_by="cli:ann")
    world.round()
    assert len(world.round(alert(**ENDED), forward=MINUTE)) == 2
    assert world.round(forward=HOUR) == []


def test_quiet_hours_keep_back_what_can_wait() -> None:
    night = Quiet(begin="15:00", end="17:00")  # the clock of these tests begins at 16:00
    world = World(config(quiet=night))
    assert world.round(alert(), alert("2", model="fraud", severity="page")) == [
        ("oncall", "incident:2", "firing", "page")
    ]
    assert world.round(alert("3", model="churn", opened_at=NOW + 2 * MINUTE), forward=MINUTE) == []
    world.round(alert("3", model="churn", opened_at=NOW + 2 * MINUTE, **ENDED), forward=MINUTE)
    assert world.round(forward=HOUR) == [("oncall", I1, "firing", "warn")]


def test_change_is_told_once() -> None:
    change = alert(
        "x",
        key="change:credit:2",
        kind="change",
        severity="info",
        alert_class="publish",
        state="resolved",
    )
    world = World(config(Route(channels=("oncall", "team"), min_severity="info")))
    assert len(world.round(change)) == 2
    assert world.round(forward=HOUR) == []
    assert World(config()).round(change) == [], "a route has to ask for it"


def test_storm_of_fifty_models_is_one_alert_that_changes_in_place() -> None:
    world = World(config())
    fifty = [alert(str(i), model=f"m{i}", opened_at=NOW + i) for i in range(50)]
    assert [(c, k.split(":")[0], s) for c, k, s, _ in world.round(*fifty)] == [
        ("oncall", "storm", "firing")
    ]
    ended = [alert(str(i), model=f"m{i}", opened_at=NOW + i, **ENDED) for i in range(50)]
    assert len(world.round(*ended[:20], forward=MINUTE)) == 1
    assert "30 of 50 are open" in world.told[-1][1].how_bad
    ((_, key, state, _),) = world.round(*ended, forward=MINUTE)
    assert (key.split(":")[0], state) == ("storm", "resolved")
    assert world.round(forward=HOUR) == []


def test_broken_feed_of_two_models_is_one_page_and_each_may_be_taken_in_hand() -> None:
    world = World(config())
    broken = {
        "alert_class": "data_bug", "severity": "page",
        "breakages": (Breakage("income", "missing", NOW),),
    }  # fmt: skip
    pair = [alert(str(i), model=f"m{i}", **broken) for i in range(2)]
    ((_, key, state, severity),) = world.round(*pair)
    assert (key.split(":")[0], state, severity) == ("feed", "firing", "page")
    world.holds[key] = Hold(acknowledged_at=NOW, acknowledged_by="ann")
    assert [s for _, _, s, _ in world.round(forward=MINUTE)] == ["acknowledged"]
    assert {a.state for a in world.plan().shown} == {"acknowledged"}, "all its members are taken"
    ended = [alert(str(i), model=f"m{i}", **broken, **ENDED) for i in range(2)]
    world.round(ended[0], forward=MINUTE)
    assert "1 of 2 are open" in world.told[-1][1].how_bad
    assert [(k, s) for _, k, s, _ in world.round(ended[1], forward=MINUTE)] == [(key, "resolved")]


def test_model_of_a_broken_feed_that_is_taken_in_hand_leaves_the_others_firing() -> None:
    world = World(config())
    broken = {"alert_class": "data_bug", "breakages": (Breakage("income", "missing", NOW),)}
    world.round(*(alert(str(i), model=f"m{i}", **broken) for i in range(2)))
    world.holds[I1] = Hold(acknowledged_at=NOW, acknowledged_by="ann")
    assert [(k.split(":")[0], s) for _, k, s, _ in world.round(forward=MINUTE)] == [
        ("feed", "firing")
    ]
    assert {a.key: a.state for a in world.plan().shown} == {
        "incident:0": "firing", I1: "acknowledged",
    }  # fmt: skip


def test_broken_feed_amid_storms_of_two_classes_is_one_page_each() -> None:
    """Three models read the broken column, three have other broken ones, three do harm: at once."""
    bug: dict[str, Any] = {"alert_class": "data_bug", "severity": "page"}
    feed = [alert(f"f{i}", model=f"f{i}", breakages=(Breakage("income", "missing", NOW),), **bug)
            for i in range(3)]  # fmt: skip
    bugs = [alert(f"b{i}", model=f"b{i}", breakages=(Breakage(f"c{i}", "missing", NOW),), **bug)
            for i in range(3)]  # fmt: skip
    harm = [alert(f"h{i}", model=f"h{i}", severity="page") for i in range(3)]
    world = World(config())
    told = world.round(*harm, *bugs, *feed)
    assert sorted((k.split(":")[0].split("-")[0], s) for _, k, s, _ in told) == [
        ("feed", "firing"), ("storm", "firing"), ("storm", "firing"),
    ]  # fmt: skip
    assert [len(a.members) for _, a in world.told] == [3, 3, 3]
    assert set(world.storms) == {a.key for a in (*feed, *bugs, *harm)}
    late = alert("late", model="late", breakages=(Breakage("income", "missing", NOW + MINUTE),),
                 opened_at=NOW + MINUTE, **bug)  # fmt: skip
    assert [k.split(":")[0] for _, k, _, _ in world.round(late, forward=MINUTE)] == ["feed"]
    over = [replace(a, state="resolved", resolved_at=NOW + 1) for a in world.alerts.values()]
    assert sorted(s for _, _, s, _ in world.round(*over, forward=MINUTE)) == ["resolved"] * 3
    assert world.round(forward=HOUR) == []


def test_alerts_told_before_a_storm_was_one_are_told_to_have_ended() -> None:
    world = World(config())
    two = [alert(str(i), model=f"m{i}", opened_at=NOW + i) for i in range(2)]
    assert len(world.round(*two)) == 2
    assert len(world.round(alert("2", model="m2", opened_at=NOW + 2))) == 1, "the storm alone"
    ended = world.round(alert("0", model="m0", opened_at=NOW, **ENDED), forward=MINUTE)
    assert {(k.split(":")[0], s) for _, k, s, _ in ended} == {
        ("incident", "resolved"),
        ("storm", "firing"),
    }


def test_team_sees_of_a_storm_what_is_its_own() -> None:
    ways = (Route(channels=("oncall",)), Route(channels=("team",), models=("m1",)))
    world = World(config(*ways))
    world.round(*[alert(str(i), model=f"m{i}", opened_at=NOW + i) for i in range(5)])
    assert sorted((c, a.kind) for c, a in world.told) == [("oncall", "storm"), ("team", "incident")]


def test_acknowledged_storm_is_in_hand_with_all_its_members() -> None:
    route = Route(channels=("oncall",), escalate_after_minutes=15, escalate_to=("team",))
    world = World(config(route))
    three = [alert(str(i), model=f"m{i}", opened_at=NOW + i, severity="page") for i in range(3)]
    ((_, key, _, _),) = world.round(*three)
    world.holds[key] = Hold(acknowledged_at=NOW, acknowledged_by="cli:ann")
    assert world.round(forward=HOUR) == [("oncall", key, "acknowledged", "page")]
    assert world.round(forward=HOUR) == []


def test_storm_that_concerns_a_channel_no_more_is_over_for_it() -> None:
    world = World(config(Route(channels=("oncall",), min_severity="page")))
    three = [alert(str(i), model=f"m{i}", opened_at=NOW + i, severity="page") for i in range(3)]
    world.round(*three)
    calm = [alert(str(i), model=f"m{i}", opened_at=NOW + i) for i in range(3)]
    ((_, _, state, _),) = world.round(*calm, forward=MINUTE)
    assert state == "resolved"
    assert world.round(forward=MINUTE) == []


class Down(World):
    """A channel that takes nothing while it is down, and rows as SQL keeps them: a plan and a note
    write columns of their own."""

    down = True

    def tries(self, *alerts: Alert, forward: int = 0) -> list[str]:
        """What it was told after one more round."""
        self.now += forward
        self.alerts |= {a.key: a for a in alerts}
        made, told = self.plan(), []
        for row in made.write:
            old = self.rows.get((row.channel, row.alert_key))
            planned = {name: getattr(row, name) for name in PLANNED}
            self.rows[row.channel, row.alert_key] = replace(old, **planned) if old else row
        for key in made.delete:
            del self.rows[key]
        for one in (s for s in made.owed["oncall"] if s.delivery.not_before <= self.now):
            error = DeliveryFailed("away")
            row = delivery.sent(one.delivery, one.alert, now=self.now)
            if self.down:
                row = delivery.failed(one.delivery, error, now=self.now, rng=Random(1))
            else:
                told.append(f"{one.alert.key} {one.alert.state} {one.alert.title}")
                self.told.append(("oncall", one.alert))
            self.rows["oncall", one.alert.key] = row
        return told

    def failing(self) -> bool:
        return bool(failing(self.rows.values()))

    def is_over(self, key: str) -> bool:
        """Whether an alert is one that ended, and that nobody believes in."""
        keys = (key, self.storms.get(key))
        believed = any(row.told_open and row.alert_key in keys for row in self.rows.values())
        return key in self.alerts and self.alerts[key].state == "resolved" and not believed


def test_what_was_given_up_and_is_still_true_is_told_once_the_channel_is_back() -> None:
    world = Down(config(), channels={"oncall": Traits(in_place=False)})
    world.tries(alert("1"), alert("2"))
    for _ in range(100):
        world.tries(forward=HOUR)
    assert {row.state for row in world.rows.values()} == {"given_up"}
    assert world.failing()
    world.tries(alert("1", title="error 4.4% → 40%"), alert("2", **ENDED), forward=MINUTE)
    world.down = False
    assert world.tries(alert("new"), forward=6 * MINUTE) == [
        "incident:new firing error 4.4% → 18.7%"
    ]
    assert world.tries(forward=SECOND) == ["incident:1 firing error 4.4% → 40%"], "as it is now"
    assert not world.failing()
    assert world.rows.keys() == {("oncall", I1), ("oncall", "incident:new")}


def test_channel_that_is_back_is_noticed_though_nothing_else_happens() -> None:
    world = Down(config())
    world.tries(alert())
    for _ in range(100):
        world.tries(forward=HOUR)
    assert world.failing()
    world.down = False
    assert world.tries(forward=HOUR + SECOND)
    assert not world.failing()


@pytest.mark.parametrize("told_before", [False, True])
def test_what_was_given_up_and_is_over_holds_no_channel_as_failing(told_before: bool) -> None:
    world = Down(config())
    if told_before:
        world.down = False
        world.tries(alert())
        world.tries(alert(**ENDED), forward=HOUR)
        world.down = True
    for _ in range(100):
        world.tries(alert(), forward=HOUR)
    assert world.failing()
    del world.alerts[I1]  # it ended, and that was long ago
    world.tries(forward=HOUR)
    assert not world.failing()
    assert bool(world.rows) is told_before
    for _ in range(100):
        world.tries(alert(), forward=HOUR)
    world.tries(alert(**ENDED), forward=HOUR)
    assert not world.failing()


def test_trouble_of_a_channel_goes_to_another_one() -> None:
    trouble = alert(
        key="operational:1", kind="operational", alert_class=CHANNEL_FAILING, model=None, where="oncall",
        severity="page",
    )  # fmt: skip
    world = World(config())
    assert world.round(trouble) == [("team", "operational:1", "firing", "page")]


def test_page_that_no_route_takes_is_named() -> None:
    world = World(config(Route(channels=("oncall",), models=("fraud",))))
    world.alerts = {a.key: a for a in (alert(severity="page"), alert("2"))}
    assert world.plan().unrouted == [I1]


def test_most_urgent_is_told_first() -> None:
    world = World(config())
    world.round(
        alert("a", opened_at=NOW), alert("b", opened_at=NOW - 5), alert("c", severity="page")
    )
    assert [a.key for _, a in world.told] == ["incident:c", "incident:b", "incident:a"]


MOVES = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from(["firing", "resolved"]), st.sampled_from(["warn", "page"]),
        st.sampled_from([None, "ack", "snooze"]), st.integers(0, 20 * MINUTE),
    ),
    max_size=25,
)  # fmt: skip


@pytest.mark.parametrize("quiet", [None, Quiet(begin="16:05", end="16:40")])
@given(MOVES)
def test_whatever_happens_a_channel_knows_in_the_end_what_is_so(
    quiet: Quiet | None, moves: list[Any]
) -> None:
    route = Route(channels=("oncall",), escalate_after_minutes=15, escalate_to=("team",))
    world = World(config(route, quiet=quiet))
    for number, state, severity, hold, forward in moves:
        ended = ENDED if state == "resolved" else {}
        one = alert(
            str(number),
            model=f"m{number}",
            severity=severity,
            opened_at=NOW + number * SECOND,
            **ended,
        )
        if hold == "ack":
            world.holds[one.key] = Hold(acknowledged_at=world.now, acknowledged_by="x")
        elif hold == "snooze":
            world.holds[one.key] = Hold(snoozed_until=world.now + HOUR, snoozed_by="x")
        world.round(one, forward=forward)
    over = [
        alert(k.split(":")[1], model=a.model, opened_at=a.opened_at, **ENDED)
        for k, a in world.alerts.items()
    ]
    world.round(*over, forward=HOUR)
    world.round(forward=HOUR)
    open_ = {(c, a.key): a.state for c, a in world.told}
    assert set(open_.values()) <= {"resolved"}, "nobody believes that anything still fires"
    assert not any(row.told_open or row.state == "owed" for row in world.rows.values())
    assert world.round(forward=HOUR) == [], "and it comes to rest"


TROUBLE = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.sampled_from(["firing", "firing", "resolved", "gone"]),
        st.sampled_from(["warn", "page"]),
        st.sampled_from([None, None, "snooze", "clear"]),
        st.sampled_from([0, SECOND, MINUTE, HOUR, DAY, 4 * DAY, -HOUR]),
        st.sampled_from([None, None, "down", "up"]),
    ),
    max_size=30,
)


@pytest.mark.parametrize("quiet", [None, Quiet(begin="16:05", end="16:40")])
@pytest.mark.parametrize("over", [True, False])
@given(moves=TROUBLE)
@example(  # what was given up joins a storm
    moves=[
        (0, "firing", "warn", None, 0, "up"),
        (6, "firing", "warn", None, 0, None),
        *[(6, "resolved", "warn", None, HOUR, "down")] * 5,
        (1, "firing", "warn", None, 4 * DAY, None),
        (6, "firing", "warn", None, 0, None),
    ]
)
def test_channel_that_was_down_knows_once_it_is_back_what_is_so_and_fails_no_more(
    quiet: Quiet | None, over: bool, moves: list[Any]
) -> None:
    world = Down(config(quiet=quiet))
    for number, state, severity, hold, forward, link in moves:
        one = alert(
            str(number),
            model=f"m{number}",
            severity=severity,
            opened_at=NOW + number * SECOND,
            **(ENDED if state == "resolved" else {}),
        )
        if state != "gone":
            world.alerts[one.key] = one
        elif world.is_over(one.key):
            del world.alerts[one.key]  # it ended long ago
        if hold == "snooze":
            world.holds[one.key] = Hold(snoozed_until=world.now + HOUR, snoozed_by="x")
        elif hold == "clear":
            world.holds.pop(one.key, None)
        world.down = world.down if link is None else link == "down"
        world.tries(forward=forward)
    world.down = False
    world.holds.clear()
    if over:
        world.alerts = {k: replace(a, **ENDED) for k, a in world.alerts.items()}
    for _ in range(30):
        world.tries(forward=61 * MINUTE)
    assert not world.failing()
    assert world.tries(forward=HOUR) == [], "it comes to rest"
    waits = {row.alert_key for row in world.rows.values() if row.state != "told"}
    assert waits <= world.storms.keys(), "but for what a storm tells"
    believes = {a.key: a.state for _, a in world.told}
    for key, one in world.alerts.items():
        states = {believes.get(k) for k in (key, world.storms.get(key, ""))}
        assert ("firing" in states) if one.state == "firing" else believes.get(key) != "firing"


def test_receiver_that_forgets_is_reminded_while_it_fires() -> None:
    world = World(config(), channels={"oncall": Traits(in_place=True, repeat_seconds=60)})
    assert len(world.round(alert())) == 1
    assert world.round(forward=30 * SECOND) == []
    for _ in range(3):
        assert world.round(forward=MINUTE) == [("oncall", I1, "firing", "warn")]
    assert len(world.round(alert(**ENDED), forward=MINUTE)) == 1
    assert world.round(forward=MINUTE) == []


def test_channel_gets_only_the_kinds_that_it_carries() -> None:
    beats = {"oncall": Traits(in_place=True, carries=frozenset({"heartbeat"}))}
    assert World(config(), channels=beats).round(alert()) == []
