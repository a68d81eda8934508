from __future__ import annotations

from collections import defaultdict

from alert_rows import NOW, alert
from hypothesis import given
from hypothesis import strategies as st

from redistill.times import HOUR, MINUTE, SECOND
from redistill.workers.alerts import storms
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.alerts_file import Storm
from redistill.workers.incidents.broken_feeds import WITHIN_US, Breakage

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


def broken(name: str, *columns: str, at: int = 0, rule: str = "missing", **more: object) -> Alert:
    """A data bug that was found so long after the others."""
    those = tuple(Breakage(column, rule, NOW + at) for column in columns)
    given = {"model": f"m{name}", "alert_class": "data_bug", "opened_at": NOW + at}
    return alert(name, **(given | {"breakages": those} | more))


def test_two_models_with_the_same_broken_column_are_one_feed() -> None:
    pair = [broken("a", "income"), broken("b", "income", at=8 * MINUTE)]
    joined = storms.gather(pair, {}, STORM)
    assert set(joined) == {"incident:a", "incident:b"}
    (key,) = set(joined.values())
    assert key.startswith("feed:")
    late = broken("c", "income", at=8 * MINUTE + WITHIN_US)
    assert storms.gather([*pair, late], joined, STORM) == {"incident:c": key}
    later = broken("c", "income", at=8 * MINUTE + WITHIN_US + 1)
    assert storms.gather([*pair, later], joined, STORM) == {}


def test_another_column_another_rule_or_the_same_model_is_no_feed() -> None:
    one = broken("a", "income")
    for other in (
        broken("b", "age"),
        broken("b", "income", rule="constant"),
        broken("b", "income", model="ma"),
        broken("b", "income", at=WITHIN_US + 1),
    ):
        assert storms.gather([one, other], {}, STORM) == {}


def test_what_broke_long_after_the_incident_was_opened_counts_from_then() -> None:
    old = broken("a", "age", "income", opened_at=NOW - 9 * HOUR)
    assert set(storms.gather([old, broken("b", "income")], {}, STORM)) == {
        "incident:a", "incident:b",
    }  # fmt: skip
    early = (Breakage("income", "missing", NOW - 9 * HOUR),)
    assert storms.gather([broken("a", breakages=early), broken("b", "income")], {}, STORM) == {}


def test_feed_takes_in_no_other_data_bug_and_a_storm_goes_on_beside_it() -> None:
    pair = [broken("a", "income"), broken("b", "income")]
    joined = storms.gather(pair, {}, STORM)
    others = [broken(str(i), f"column{i}", at=i) for i in range(2)]
    assert storms.gather([*pair, *others], joined, STORM) == {}
    others.append(broken("2", "column2", at=2))
    made = storms.gather([*pair, *others], joined, STORM)
    assert set(made) == {"incident:0", "incident:1", "incident:2"}
    assert {key.split(":")[0] for key in made.values()} == {"storm"}
    age = [broken("x", "age"), broken("y", "age", "income")]
    made |= storms.gather([*pair, *age], joined, STORM)
    assert made["incident:y"] == joined["incident:a"]
    assert "incident:x" not in made, "of its feed there is nobody left"


def test_alert_of_several_broken_columns_joins_the_feed_of_most_models() -> None:
    many = [broken(str(i), "income") for i in range(4)]
    both = [broken("x", "age", "income"), broken("y", "age")]
    made = storms.gather([*both, *many], {}, STORM)
    assert len({made[a.key] for a in [both[0], *many]}) == 1
    assert "incident:y" not in made


@given(fleets(), st.data())
def test_feeds_do_not_depend_on_the_order_and_hold_one_column(
    alerts: list[Alert], data: st.DataObject
) -> None:
    columns = st.lists(st.sampled_from(["age", "income", "zip"]), unique=True)
    alerts = [
        broken(
            str(i), *data.draw(columns), at=a.opened_at - NOW, model=a.model, state=a.state,
            resolved_at=a.resolved_at,
        )
        for i, a in enumerate(alerts)
    ]  # fmt: skip
    members = storms.gather(alerts, {}, STORM)
    shuffled = data.draw(st.permutations(alerts))
    assert storms.gather(shuffled, {}, STORM) == members
    of = defaultdict(list)
    for one in alerts:
        if members.get(one.key, "").startswith("feed:"):
            of[members[one.key]].append(one)
    for those in of.values():
        assert set.intersection(*({b.column for b in a.breakages} for a in those))
        assert len({a.model for a in those}) >= 2
    assert not set(storms.gather(alerts, members, STORM)) & set(members), "nobody changes his feed"


def test_feed_says_which_column_and_lists_its_models() -> None:
    five = [broken(str(i), "income", at=i * MINUTE, severity="page") for i in range(5)]
    (key,) = set(storms.gather(five, {}, STORM).values())
    one = storms.grouped(key, five)
    assert one.title == "column `income` has missing values in 5 models: m0, m1, m2 and 2 more"
    assert one.began.startswith("between 20")
    assert (one.severity, len(one.members)) == ("page", 5)
    ended = [broken(str(i), "income", state="resolved", resolved_at=NOW) for i in range(4)]
    rest = storms.grouped(key, [*ended, five[4]])
    assert rest.how_bad.startswith("1 of 5 are open")
    assert rest.title.startswith("column `income` has missing values in 5 models: m4, ")


def test_hostile_column_makes_a_key_and_one_line() -> None:
    name = "a`b\ud800\n\x1b[2J|" + "z" * 900
    pair = [broken("a", name), broken("b", name)]
    (key,) = set(storms.gather(pair, {}, STORM).values())
    assert key.isascii()
    assert len(key) < 80
    assert storms.grouped(key, pair).title.isprintable()
