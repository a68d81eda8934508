from __future__ import annotations

import numpy as np
import pytest
from gate_evidence import TASK, evidence, scores, versus

from redistill.compress.judge import policy
from redistill.compress.judge.evidence import Sample
from redistill.compress.judge.gates import trusted
from redistill.compress.plan import Gate


def judge(sample: Sample, points: float = 2.0, **more: object) -> Gate:
    gate = trusted.judge(evidence(trusted=sample, **more), trusted.Limit(margin_points=points))
    assert gate is not None
    return gate


@pytest.mark.parametrize(
    ("rows", "passed"),
    [((10, 2, 488), True), ((2, 40, 458), False), ((5, 6, 149), None)],
)
def test_trusted_passes_fails_or_asks(rows: tuple[int, int, int], passed: bool | None) -> None:
    gate = judge(versus(*rows))
    assert gate.passed is passed
    assert (gate.need is not None) == (passed is None)


def test_so_many_more_rows_like_these_decide_it() -> None:
    gate = judge(versus(5, 6, 149))
    assert gate.need is not None
    times = gate.need // 160
    assert times > 3
    assert judge(versus(5 * times, 6 * times, 149 * times)).passed is None
    times += 1
    assert judge(versus(5 * times, 6 * times, 149 * times)).passed is not None
    assert judge(versus(0, 20, 980)).need is None, "at the margin itself no number of rows decides"


def test_trusted_is_stricter_with_a_smaller_margin_and_where_labels_taught() -> None:
    same = versus(5, 5, 390)
    assert judge(same).passed is True
    assert judge(same, 0.5).passed is None
    assert judge(same, labels_in_loss=True).limit == -1.0
    assert judge(same, requirement="keep").limit == -1.0


def test_five_releases_that_each_lose_a_little_do_not_add_up() -> None:
    """Against the incumbent each lost 3 points; against the best release it is 15."""
    n = 2_000
    right = {"best": 1_900, "incumbent": 1_660, "candidate": 1_600}
    sample = Sample(
        truth=np.zeros(n, np.int64),
        scores={role: scores(np.arange(n) < k) for role, k in right.items()},  # type: ignore[misc]
    )
    gate = judge(sample, 4.0)
    assert gate.passed is False
    assert "against the best release so far -15.00 points" in gate.why
    only = Sample(
        truth=sample.truth,
        scores={r: s for r, s in sample.scores.items() if r != "best"},
    )
    assert judge(only, 4.0).passed is True
    assert TASK.name == "classification"


# --- the trade -----------------------------------------------------------------------------------

OLD_ROWS = versus(7, 24, 969)
"""The candidate loses 1.7 points; by a bound of 97.5% at most 2.9."""
LARGE = versus(72, 2, 26)
"""Fresh rows: it gains 70 points."""


def traded(fresh: Sample, rows: Sample = OLD_ROWS, **more: object) -> Gate:
    limit = trusted.Limit(trade=True)
    gate = trusted.judge(evidence(trusted=rows, fresh=fresh, **more), limit)
    assert gate is not None
    assert trusted.RULE.faces_fresh(evidence(trusted=rows, **more), limit) is (
        "trade" in gate.why
    ), "who looks at fresh rows says so"
    return gate


def test_a_repair_worth_70_points_on_traffic_passes_by_the_trade_only() -> None:
    """It was refused for -1.7 on old rows."""
    plain = trusted.judge(evidence(trusted=OLD_ROWS, fresh=LARGE), trusted.Limit())
    assert plain is not None
    assert plain.passed is not True
    gate = traded(LARGE)
    assert gate.passed is True
    assert "-1.70 points" in gate.why
    assert "; trade: at most 2.9" in gate.why
    assert gate.why.endswith("200 is needed")


def test_a_trade_waits_for_labels_while_it_may_come_true() -> None:
    gate = traded(versus(9, 0, 3))
    assert (gate.passed, gate.ask, gate.have) == (None, None, 12)
    assert gate.need is not None
    assert gate.need > 12
    nobody = traded(Sample(truth=np.empty(0, np.int64), scores={}))
    assert (nobody.passed, nobody.ask, nobody.have, nobody.need) == (None, None, 0, None)


@pytest.mark.parametrize(
    ("rows", "passed"), [(OLD_ROWS, None), (versus(0, 30, 970), False)], ids=["open", "failed"]
)
def test_a_gain_as_small_as_the_loss_pays_for_nothing(rows: Sample, passed: bool | None) -> None:
    gate = traded(versus(40, 40, 3_000), rows)
    assert gate.passed is passed
    assert gate.ask is not None
    assert "no trade: fresh rows do not gain as much" in gate.why


def test_a_loss_that_may_be_above_five_points_is_not_for_sale() -> None:
    gate = traded(LARGE, versus(0, 40, 960))
    assert gate.passed is False
    assert "trade" not in gate.why


@pytest.mark.parametrize(
    "more", [{"labels_in_loss": True}, {"requirement": "keep"}, {"requirement": "admit"}]
)
def test_nothing_is_traded_for_labels_or_without_an_incident(more: dict[str, object]) -> None:
    assert traded(LARGE, **more).passed is not True


def test_later_recipes_pay_more_for_a_trade() -> None:
    some = versus(16, 1, 12)
    limits = [traded(some, recipe=k).passed for k in (1, 2, 3)]
    assert limits == [True, None, None]


def test_a_trade_asks_for_the_evidence_that_its_own_limit_says() -> None:
    some = evidence(trusted=OLD_ROWS, fresh=versus(16, 1, 12))
    told = {}
    for asked in (100.0, 10_000.0):
        section = {"trusted": {"trade": True, "trade_e_value": asked}, "fresh": {"e_value": 20.0}}
        gate = trusted.judge(some, policy.of(section)["trusted"])
        assert gate is not None
        told[gate.passed] = gate.why
    assert told[True].endswith(", 100 is needed")
    assert told[None].endswith(", 10000 is needed")


def test_rows_that_nobody_answered_count_against_a_trade() -> None:
    some = versus(16, 1, 12)
    assert traded(some).passed is True
    silent = Sample(truth=some.truth, scores=some.scores, missing=np.full(10, 0.5))
    gate = traded(silent)
    assert gate.passed is None
    assert "10 rows that were asked for have no label" in gate.why
    assert gate.need is not None
    assert gate.need > len(some), "the rows that are there would be enough, were they all"


def test_what_passes_by_the_margin_needs_no_trade() -> None:
    assert traded(versus(0, 50, 0), versus(5, 5, 990)).passed is True
