"""The same column, broken in the same way in several models within minutes, is one feed."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any, get_args

import msgspec
import pytest
from feeds import contract_finding
from loop import NOW

from redistill.streams.monitor import contract, reports
from redistill.times import HOUR, MINUTE, SECOND
from redistill.workers.incidents import broken_feeds
from redistill.workers.incidents.broken_feeds import (
    WITHIN_US,
    Breakage,
    BrokenFeed,
    BrokenIncident,
    breakages,
)


def incident(model: str, *broken: Breakage, number: str = "", only: bool = True) -> BrokenIncident:
    return BrokenIncident(
        incident_id=number or f"i-{model}", model=model, breakages=broken, nothing_else=only
    )


def missing(minute: float, column: str = "income") -> Breakage:
    return Breakage(column, "missing", NOW + round(minute * MINUTE))


def models(feeds: list[BrokenFeed]) -> list[list[str]]:
    return [feed.models for feed in feeds]


def grouped(*incidents: BrokenIncident) -> list[list[str]]:
    return models(broken_feeds.broken_feeds(incidents))


def test_the_same_column_and_rule_within_minutes_is_one_feed() -> None:
    (feed,) = broken_feeds.broken_feeds(
        [incident("b", missing(3)), incident("a", missing(0)), incident("c", missing(5))]
    )
    assert feed.models == ["a", "b", "c"]
    assert feed.columns == (("income", "missing"),)
    assert feed.since == NOW


def test_another_column_or_another_rule_is_another_thing() -> None:
    assert grouped(incident("a", missing(0)), incident("b", missing(0, "age"))) == []
    constant = Breakage("income", "constant", NOW)
    assert grouped(incident("a", missing(0)), incident("b", constant)) == []


def test_what_is_far_apart_is_no_feed_and_what_lies_between_joins_it() -> None:
    last = Breakage("income", "missing", NOW + 2 * WITHIN_US)
    assert grouped(incident("a", missing(0)), incident("b", last)) == []
    between = Breakage("income", "missing", NOW + WITHIN_US)
    assert grouped(incident("a", missing(0)), incident("b", last), incident("c", between)) == [
        ["a", "b", "c"]
    ]
    late = Breakage("income", "missing", NOW + WITHIN_US + 1)
    assert grouped(incident("a", missing(0)), incident("b", late)) == []


def test_one_model_twice_is_no_feed() -> None:
    twice = [incident("a", missing(0), number="1"), incident("a", missing(1), number="2")]
    assert grouped(*twice) == []
    (feed,) = broken_feeds.broken_feeds([*twice, incident("b", missing(2))])
    assert (feed.models, len(feed.members)) == (["a", "b"], 3)


def test_columns_that_break_together_are_one_feed_and_others_another() -> None:
    both = (missing(0), missing(1, "age"))
    feeds = broken_feeds.broken_feeds(
        [incident("a", *both), incident("b", *both), incident("c", missing(0, "zip")),
         incident("d", missing(0, "zip")), incident("e", missing(0, "zip"))]
    )  # fmt: skip
    assert models(feeds) == [["c", "d", "e"], ["a", "b"]]
    assert feeds[1].columns == (("age", "missing"), ("income", "missing"))


def test_the_order_in_which_incidents_come_changes_nothing() -> None:
    some = [incident(f"m{i}", missing(i * 4), missing(i % 3, "age")) for i in range(9)]
    usual = broken_feeds.broken_feeds(some)
    assert len(usual) == 1, "each four minutes after the one before"
    for seed in range(5):
        Random(seed).shuffle(some)
        assert broken_feeds.broken_feeds(some) == usual


def test_incident_in_which_something_else_is_broken_is_not_wholly_in_a_feed() -> None:
    feeds = broken_feeds.broken_feeds(
        [incident("a", missing(0)), incident("b", missing(0), missing(0, "age")),
         incident("c", missing(0), only=False)]
    )  # fmt: skip
    assert broken_feeds.wholly_in(feeds) == {"i-a"}


def body(*columns: str, **over: Any) -> dict[str, Any]:
    return stored(columns) | over


def stored(columns: tuple[str, ...], at: int = NOW) -> dict[str, Any]:
    """A finding as SQL gives it back."""
    found: dict[str, Any] = json.loads(
        msgspec.json.encode(contract_finding(columns=columns, at=at))
    )
    return found


def test_breakages_are_those_of_open_findings_of_the_contract() -> None:
    now = (Breakage("age", "missing", NOW), Breakage("income", "missing", NOW))
    assert breakages([body("income", "age")]) == now
    over = body("income", "age", status="resolved")
    assert breakages([over]) == ()
    assert breakages([over], ended=True) == now
    assert breakages([body("income", kind="covariate")]) == ()


def test_column_that_broke_again_counts_from_then() -> None:
    again = stored(("income",), NOW + HOUR)
    assert breakages([again, body("income")]) == (Breakage("income", "missing", NOW + HOUR),)


@pytest.mark.parametrize(
    "odd",
    [
        None, [1], {}, {"kind": "quality"}, body("x", opened_at="yesterday"), body("x", opened_at=3),
        body("x", opened_at="2026-03-01"), body("x", contributors=None),
        body("x", contributors=[{"column": 7, "distance": "missing"}]),
        body("x", contributors=[{"column": "x", "distance": ["missing"]}]),
        body("x", contributors=[{"column": "x", "distance": "rm -rf"}]),
    ],
)  # fmt: skip
def test_finding_of_another_shape_says_nothing_and_hides_no_other(odd: Any) -> None:
    assert breakages([odd, body("income")]) == (Breakage("income", "missing", NOW),)


def test_incident_says_whether_its_breakages_are_all() -> None:
    text = json.dumps(body("income"))

    def alone(*more: str) -> bool:
        found = broken_feeds.broken_incident("i", "a", [text, *more])
        assert [b.column for b in found.breakages] == ["income"]
        return found.nothing_else

    assert alone()
    assert alone(json.dumps(body("x", kind="covariate"))), "explains, and is no trouble by itself"
    assert not alone("{"), "nobody knows what it would say"
    assert not alone(json.dumps(body())), "labels that clash, say"


@pytest.mark.parametrize("rule", get_args(contract.Rule))
def test_what_the_contract_finds_is_a_breakage_with_its_words(rule: contract.Rule) -> None:
    breach = contract.Breach(
        rule=rule, column=0, name="income", value=0.4, reference=0.0, hits=200, rows=500,
        threshold=0.15,
    )  # fmt: skip
    finding = replace(
        contract_finding(columns=()), contributors=reports.breach_contributors([breach])
    )
    (found,) = breakages([json.loads(msgspec.json.encode(finding))])
    assert (found.column, found.rule) == ("income", rule)
    assert broken_feeds.change([("income", rule)], 2).startswith("column `income` ")


def test_sentence_names_some_models_and_counts_the_rest() -> None:
    twelve = [incident(f"m{i:02}", missing(i / 10)) for i in range(12)]
    (feed,) = broken_feeds.broken_feeds(twelve)
    said = broken_feeds.sentence(feed)
    assert said.startswith("column `income` has missing values in 12 models since 20")
    assert said.endswith(" UTC: m00, m01, m02, m03, m04 and 7 more")
    (two,) = broken_feeds.broken_feeds(twelve[:2])
    assert broken_feeds.sentence(two).endswith(" UTC: m00, m01")


def test_hostile_names_stay_on_one_line_and_within_their_quotes() -> None:
    column = "x` is well\nincome\x1b[2J\u202e\ud800" + "y" * 500
    pair = [incident("a\nb\x1b[31m", missing(0, column)), incident("c", missing(0, column))]
    (feed,) = broken_feeds.broken_feeds(pair)
    said = broken_feeds.sentence(feed)
    assert said.isprintable()
    assert said.count("`") == 2
    assert len(said) < 250
    assert said.endswith(": a b [31m, c")


def test_time_that_no_calendar_holds_is_told_all_the_same() -> None:
    far = 2**62
    pair = [incident(m, Breakage("x", "missing", far + SECOND * i)) for i, m in enumerate("ab")]
    (feed,) = broken_feeds.broken_feeds(pair)
    assert "since 9999-" in broken_feeds.sentence(feed)
