"""Each gate rule by itself: passed, failed, open, and where its limit lies."""

from __future__ import annotations

from typing import Any

import pytest

from redistill.compress.judge import gate_rules
from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.measures import SliceLoss
from redistill.compress.plan import Comparison, Limits, Measure
from redistill.stats import paired_e_value


def versus(wins: int, losses: int, ties: int) -> Comparison:
    better, worse = paired_e_value(wins, losses)
    return Comparison(wins=wins, losses=losses, ties=ties, e_better=better, e_worse=worse)


def evidence(**found: Any) -> Evidence:
    return Evidence(**{"variant": "static_int8", "bytes": 100} | found)


def test_loads_says_why_the_child_refused() -> None:
    assert gate_rules.loads(evidence()).passed is True
    refused = gate_rules.loads(evidence(load_error="corrupt"))
    assert (refused.passed, refused.why) == (False, "corrupt")


@pytest.mark.parametrize(("most", "passed"), [(100, True), (99, False)])
def test_size_passes_up_to_its_limit(most: int, passed: bool) -> None:
    gate = gate_rules.size(evidence(), Limits(max_bytes=most))
    assert gate is not None
    assert (gate.value, gate.limit, gate.passed) == (100.0, float(most), passed)


def test_size_without_a_limit_is_no_gate() -> None:
    assert gate_rules.size(evidence(), Limits()) is None


def test_a_quantization_that_does_nothing_is_told_by_size_and_by_operators() -> None:
    noop = evidence(quantized=True, bytes=95, fp32_bytes=100)
    assert [(g.name, g.passed) for g in gate_rules.really_quantized(noop, Limits())] == [
        ("quantized_size_ratio", False),
        ("integer_operators", False),
    ]
    real = evidence(quantized=True, bytes=30, fp32_bytes=100, integer_operators=("QGemm",))
    assert all(g.passed for g in gate_rules.really_quantized(real, Limits()))
    assert gate_rules.really_quantized(evidence(fp32_bytes=100), Limits()) == []


def test_speed_compares_with_the_fp32_student_and_with_the_limit() -> None:
    slow = evidence(quantized=True, p50_ms=0.106, p95_ms=0.3, fp32_p50_ms=0.1)
    ratio, p95 = gate_rules.speed(slow, Limits(max_p95_ms=0.3))
    assert (ratio.name, ratio.passed) == ("latency_ratio", False)
    assert (p95.name, p95.passed) == ("p95_ms", True)
    assert gate_rules.speed(evidence(p50_ms=9.0, p95_ms=9.0), Limits()) == []


def test_agreement_judges_fresh_rows_by_their_upper_bound() -> None:
    trusted = Measure(value=0.99, low=0.97, high=1.0, n=500)
    few = Measure(value=0.95, low=0.76, high=0.99, n=20)
    both = gate_rules.agreement(
        evidence(quantized=True, agreement=trusted, fresh_agreement=few), Limits()
    )
    assert both is not None
    assert both.passed
    many = Measure(value=0.95, low=0.93, high=0.96, n=500)
    gate = gate_rules.agreement(
        evidence(quantized=True, agreement=trusted, fresh_agreement=many), Limits()
    )
    assert gate is not None
    assert (gate.value, gate.passed) == (0.96, False)
    assert gate_rules.agreement(evidence(agreement=trusted), Limits()) is None


@pytest.mark.parametrize(
    ("comparison", "passed"),
    [(versus(10, 2, 488), True), (versus(2, 40, 458), False), (versus(5, 6, 289), None)],
)
def test_trusted_passes_fails_or_waits(comparison: Comparison, passed: bool | None) -> None:
    gate, waits = gate_rules.trusted(evidence(trusted=comparison), Limits(), 1.0)
    assert gate.passed is passed
    assert (waits is None) == (passed is not None)


def test_trusted_is_stricter_with_a_smaller_margin() -> None:
    same = evidence(trusted=versus(5, 5, 390))
    assert gate_rules.trusted(same, Limits(), 2.0)[0].passed is True
    assert gate_rules.trusted(same, Limits(), 0.5)[0].passed is None


def test_f1_passes_at_its_limit_and_says_when_there_is_no_interval() -> None:
    gate = gate_rules.f1(evidence(f1=Measure(value=-0.02, low=None, high=None, n=9)), Limits())
    assert gate is not None
    assert gate.passed
    assert "no interval" in gate.why
    worse = gate_rules.f1(evidence(f1=Measure(value=-0.021, low=-1, high=0, n=9)), Limits())
    assert worse is not None
    assert not worse.passed


def test_worst_slice_names_the_slice_that_surely_loses() -> None:
    slices = (
        SliceLoss(name="r=small", n=10, wins=0, losses=2),
        SliceLoss(name="r=sure", n=200, wins=0, losses=40),
    )
    ruling = gate_rules.worst_slice(evidence(slices=slices), Limits())
    assert ruling is not None
    gate, waits = ruling
    assert (gate.passed, waits) == (False, None)
    assert gate.why.startswith("r=sure loses +20.0 points")


def test_worst_slice_allows_for_looking_at_all_of_them() -> None:
    suspect = SliceLoss(name="r=x", n=60, wins=1, losses=9)
    alone = gate_rules.worst_slice(evidence(slices=(suspect,)), Limits())
    others = tuple(SliceLoss(name=f"r={i}", n=60, wins=1, losses=1) for i in range(40))
    among = gate_rules.worst_slice(evidence(slices=(suspect, *others)), Limits())
    assert alone is not None
    assert among is not None
    assert (alone[0].passed, among[0].passed) == (False, None)


@pytest.mark.parametrize(
    ("comparison", "passed"),
    [(versus(30, 3, 67), True), (versus(3, 30, 67), False), (versus(4, 1, 15), None), (None, None)],
)
def test_fresh_beat_needs_evidence_either_way(
    comparison: Comparison | None, passed: bool | None
) -> None:
    gate, waits = gate_rules.fresh_beat(evidence(fresh=comparison), Limits())
    assert gate.passed is passed
    assert (waits is None) == (passed is not None)


def test_fresh_keep_lets_an_added_version_do_without_labels() -> None:
    gate, waits = gate_rules.fresh_keep(evidence(), Limits(), "admit")
    assert (gate.passed, waits) == (True, None)
    gate, waits = gate_rules.fresh_keep(evidence(), Limits(), "keep")
    assert gate.passed is None
    assert waits is not None


def test_fresh_keep_says_how_many_rows_would_decide() -> None:
    _, waits = gate_rules.fresh_keep(evidence(fresh=versus(0, 0, 50)), Limits(), "keep")
    assert waits is not None
    assert waits.need is not None
    enough = gate_rules.fresh_keep(evidence(fresh=versus(0, 0, waits.need)), Limits(), "keep")
    few = gate_rules.fresh_keep(evidence(fresh=versus(0, 0, waits.need - 6)), Limits(), "keep")
    assert (enough[0].passed, few[0].passed) == (True, None)


def blind(auc: float, verified: Comparison | None) -> Evidence:
    told = Measure(value=auc, low=auc, high=auc, n=100)
    return evidence(labels_in_loss=True, domain_auc=told, verified=verified)


def test_verified_rows_are_asked_for_only_where_trusted_rows_are_blind() -> None:
    assert gate_rules.verified(evidence(), Limits()) is None
    alike = gate_rules.verified(blind(0.8, None), Limits())
    assert alike is not None
    assert alike[0].passed
    apart = gate_rules.verified(blind(0.81, versus(9, 0, 90)), Limits())
    assert apart is not None
    assert apart[0].passed is None
    enough = gate_rules.verified(blind(0.81, versus(10, 0, 90)), Limits())
    assert enough is not None
    assert enough[0].passed


@pytest.mark.parametrize(
    ("found", "passed"),
    [
        ({}, False),
        ({"incumbent_bytes": 111}, False),  # 90.1% of it
        ({"incumbent_bytes": 112}, True),
        ({"p50_ms": 0.9, "incumbent_p50_ms": 1.0}, True),
        ({"fresh": versus(30, 3, 67)}, True),
        ({"trusted": versus(20, 2, 478)}, True),
        ({"trusted": versus(2, 1, 497)}, False),
    ],
)
def test_gain_is_better_smaller_or_faster(found: dict[str, Any], passed: bool) -> None:
    assert gate_rules.gain(evidence(**found), Limits()).passed is passed
