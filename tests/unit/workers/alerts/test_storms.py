from __future__ import annotations

from collections import defaultdict

from alert_rows import NOW, alert
from hypothesis import given
from hypothesis import strategies as st

from redistill.times import SECOND
from redistill.workers.alerts import storms
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.alerts_file import Storm

STORM = Storm(within_seconds=60, alerts=3)


def opened(second: float, name: str, **more: object) -> Alert:
    return alert(name, **({"model": f"m{name}", "opened_at": NOW + round(second * SECOND)} | more))


def burst(*seconds: float) -> list[Alert]:
    return [opened(at, str(i)) for i, at in enumerate(seconds)]


def test_three_models_within_a_minute_are_a_storm() -> None:
    joined = storms.gather(burst(0, 30, 60), {}, STORM)
    assert set(joined) == {"incident:0", "incident:1", "incident:2"}
    assert len(set(joined.values())) == 1


def test_three_that_come_slowly_are_none() -> None:
    assert storms.gather(burst(0, 31, 62, 93), {}, STORM) == {}


def test_three_alerts_of_one_model_are_none() -> None:
    assert storms.gather([opened(i, str(i), model=None) for i in range(9)], {}, STORM) == {}
    same = [alert(str(i), opened_at=NOW + i) for i in range(9)]
    assert storms.gather(same, {}, STORM) == {}


def test_classes_do_not_mix() -> None:
    three = burst(0, 1)
    three.append(opened(2, "x", alert_class="data_bug"))
    assert storms.gather(three, {}, STORM) == {}


def test_later_ones_join_while_one_of_it_is_open() -> None:
    first = burst(0, 1, 2)
    members = storms.gather(first, {}, STORM)
    (key,) = set(members.values())
    assert storms.gather([*first, opened(62, "x")], members, STORM) == {"incident:x": key}
    assert storms.gather([*first, opened(63, "x")], members, STORM) == {}
    ended = [opened(i, str(i), state="resolved", resolved_at=NOW) for i in range(3)]
    assert storms.gather([*ended, opened(10, "x")], members, STORM) == {}


@st.composite
def fleets(draw: st.DrawFn) -> list[Alert]:
    made = draw(
        st.lists(
            st.tuples(
                st.integers(0, 600), st.integers(0, 8), st.sampled_from(["harm", "data_bug"]),
                st.sampled_from(["firing", "acknowledged", "resolved"]),
            ),
            max_size=30,
        )
    )  # fmt: skip
    return [
        alert(
            str(i), opened_at=NOW + at * SECOND, model=f"m{model}", alert_class=kind, state=state,
            resolved_at=NOW if state == "resolved" else None,
        )
        for i, (at, model, kind, state) in enumerate(made)
    ]  # fmt: skip


@given(fleets(), st.randoms())
def test_storms_do_not_depend_on_the_order_and_stay_as_they_are(
    alerts: list[Alert], rng: object
) -> None:
    members = storms.gather(alerts, {}, STORM)
    shuffled = list(alerts)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert storms.gather(shuffled, {}, STORM) == members
    of = defaultdict(list)
    for one in alerts:
        if one.key in members:
            of[members[one.key]].append(one)
    for those in of.values():
        assert len({a.model for a in those}) >= STORM.alerts
        assert len({a.alert_class for a in those}) == 1
    again = storms.gather(alerts, members, STORM)
    assert not set(again) & set(members), "nobody changes his storm"
    living = {k for k, those in of.items() if any(a.state != "resolved" for a in those)}
    assert not set(again.values()) & living, "who may join has joined"


def test_grouped_alert_says_how_many_and_changes_with_its_members() -> None:
    members = [*burst(0, 1, 2), opened(40, "p", severity="page")]
    one = storms.grouped("storm:1", members)
    assert (one.state, one.severity, one.model) == ("firing", "page", None)
    assert one.title == "harm in 4 models at once: mp, m0, m1 and 1 more"
    assert one.how_bad == "4 of 4 are open, 1 of them need a person"
    assert one.members[0].endswith(" (firing)")
    assert one.opened_at == NOW
    over = [opened(i, str(i), state="resolved", resolved_at=NOW + i) for i in range(3)]
    assert storms.grouped("storm:1", over).resolved_at == NOW + 2
    assert storms.grouped("storm:1", [*over, members[3]]).state == "firing"
    taken = [opened(i, str(i), state="acknowledged") for i in range(3)]
    assert storms.grouped("storm:1", taken).state == "acknowledged"


def test_grouped_alert_lists_some_and_counts_the_rest() -> None:
    one = storms.grouped("storm:1", burst(*range(40)), listed=10)
    assert len(one.members) == 11
    assert one.members[-1] == "and 30 more"
