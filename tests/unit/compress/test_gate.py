from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from redistill.compress import gate
from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.measures import SliceLoss
from redistill.compress.plan import (
    Accepted,
    Comparison,
    Gate,
    Limits,
    Measure,
    Rejected,
    Undecidable,
)
from redistill.stats import paired_e_value


def versus(wins: int, losses: int, ties: int) -> Comparison:
    better, worse = paired_e_value(wins, losses)
    return Comparison(wins=wins, losses=losses, ties=ties, e_better=better, e_worse=worse)


def share(value: float, n: int = 500) -> Measure:
    return Measure(value=value, low=value - 0.02, high=min(1.0, value + 0.02), n=n)


GOOD = Evidence(
    variant="static_int8",
    quantized=True,
    bytes=30_000,
    fp32_bytes=100_000,
    integer_operators=("QGemm",),
    p50_ms=0.05,
    p95_ms=0.06,
    fp32_p50_ms=0.10,
    incumbent_bytes=30_000,
    incumbent_p50_ms=0.05,
    accuracy=share(0.95),
    trusted=versus(10, 2, 488),
    f1=Measure(value=0.01, low=-0.01, high=0.03, n=500),
    slices=(SliceLoss(name="region=EU", n=100, wins=1, losses=1),),
    agreement=share(0.99),
    fresh_agreement=share(0.99),
    fresh=versus(30, 3, 67),
)
LIMITS = Limits(max_bytes=50_000, max_p95_ms=1.0)


def gates(evidence: Evidence, limits: Limits = LIMITS, **more: Any) -> dict[str, Gate]:
    return {g.name: g for g in gate.decide(evidence, limits, **more).gates}


def test_decide_accepts_when_every_gate_passes() -> None:
    judged = gate.decide(GOOD, LIMITS)
    assert judged.decision == Accepted(variant="static_int8")
    assert all(g.passed for g in judged.gates)
    assert len(judged.gates) == 11


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"bytes": 60_000}, "size_bytes"),
        ({"bytes": 95_000}, "quantized_size_ratio"),
        ({"integer_operators": ()}, "integer_operators"),
        ({"p50_ms": 0.106}, "latency_ratio"),
        ({"p95_ms": 1.5}, "p95_ms"),
        ({"fresh": versus(3, 30, 67)}, "fresh_e_value"),
        ({"trusted": versus(2, 40, 458)}, "trusted_points"),
        ({"f1": Measure(value=-0.03, low=-0.05, high=-0.01, n=500)}, "f1_points"),
        ({"agreement": share(0.9)}, "agreement"),
        ({"fresh_agreement": share(0.9)}, "agreement"),
        ({"slices": (SliceLoss(name="r=x", n=100, wins=0, losses=20),)}, "worst_slice_points"),
        ({"load_error": "corrupt"}, "loads"),
    ],
)
def test_decide_rejects_and_names_the_failed_gate(change: dict[str, Any], name: str) -> None:
    limits = replace(LIMITS, max_bytes=None) if name == "quantized_size_ratio" else LIMITS
    decision = gate.decide(replace(GOOD, **change), limits).decision
    assert isinstance(decision, Rejected)
    assert [r.split(":")[0] for r in decision.reasons] == [name]


def test_agreement_passes_when_a_few_fresh_rows_cannot_tell() -> None:
    one_of_21 = Measure(value=20 / 21, low=0.76, high=0.9988, n=21)
    judged = gate.decide(replace(GOOD, fresh_agreement=one_of_21), LIMITS)
    assert isinstance(judged.decision, Accepted)
    shown = {g.name: g for g in judged.gates}["agreement"]
    assert shown.value == 0.99  # the trusted rows', which say more


def test_decide_names_every_failed_gate_even_where_others_are_open() -> None:
    bad = replace(GOOD, p95_ms=2.0, bytes=60_000, fresh=None)
    decision = gate.decide(bad, LIMITS).decision
    assert isinstance(decision, Rejected)
    assert {r.split(":")[0] for r in decision.reasons} == {"size_bytes", "p95_ms"}


def test_decide_waits_for_fresh_labels_and_says_how_many() -> None:
    judged = gate.decide(replace(GOOD, fresh=versus(4, 1, 15)), LIMITS)
    decision = judged.decision
    assert isinstance(decision, Undecidable)
    assert (decision.gate, decision.have, decision.need) == ("fresh_e_value", 20, 117)
    none = gate.decide(replace(GOOD, fresh=None), LIMITS).decision
    assert isinstance(none, Undecidable)
    assert (none.have, none.need) == (0, None)


def test_decide_is_undecidable_between_the_bounds_of_the_trusted_gate() -> None:
    judged = gate.decide(replace(GOOD, trusted=versus(5, 6, 289)), LIMITS)
    decision = judged.decision
    assert isinstance(decision, Undecidable)
    assert decision.gate == "trusted_points"
    assert decision.have == 300
    assert decision.need is not None
    assert decision.need > 300
    assert judged.open == (decision,)


def test_a_suspicious_slice_that_may_be_an_accident_is_open() -> None:
    slices = (SliceLoss(name="r=x", n=60, wins=4, losses=8),)
    judged = gate.decide(replace(GOOD, slices=slices), LIMITS)
    assert isinstance(judged.decision, Undecidable)
    assert judged.decision.gate == "worst_slice_points"


def test_many_small_slices_without_a_loss_pass() -> None:
    slices = tuple(SliceLoss(name=f"r={i}", n=50, wins=1, losses=2) for i in range(50))
    assert gates(replace(GOOD, slices=slices))["worst_slice_points"].passed is True


def blind(auc: float, verified: Comparison | None) -> Evidence:
    return replace(
        GOOD, labels_in_loss=True, domain_auc=share(auc), verified=verified, fresh=versus(40, 1, 59)
    )


def test_labels_in_the_loss_need_verified_rows_where_the_trusted_gate_is_blind() -> None:
    decision = gate.decide(blind(0.99, versus(2, 0, 8)), LIMITS).decision
    assert isinstance(decision, Undecidable)
    assert (decision.gate, decision.have, decision.need) == ("verified_rows", 10, 100)


def test_verified_rows_and_not_the_sources_own_decide_where_the_trusted_gate_is_blind() -> None:
    decision = gate.decide(blind(0.99, versus(1, 24, 80)), LIMITS).decision
    assert isinstance(decision, Rejected)
    assert decision.reasons[0].startswith("fresh_e_value")
    assert isinstance(gate.decide(blind(0.99, versus(30, 1, 80)), LIMITS).decision, Accepted)


def test_labels_in_the_loss_need_no_verified_rows_where_domains_are_alike() -> None:
    assert isinstance(gate.decide(blind(0.55, None), LIMITS).decision, Accepted)


def test_a_scheduled_candidate_needs_a_gain() -> None:
    same = replace(GOOD, trusted=versus(0, 0, 500), fresh=versus(1, 1, 998))
    judged = gate.decide(same, LIMITS, rule="keep")
    assert isinstance(judged.decision, Rejected)
    assert judged.decision.reasons[0].startswith("gain: no gain")
    for gain in (
        {"incumbent_bytes": 40_000},
        {"incumbent_p50_ms": 0.06},
        {"trusted": versus(20, 2, 478)},
        {"fresh": versus(30, 3, 967)},
    ):
        assert isinstance(
            gate.decide(replace(same, **gain), LIMITS, rule="keep").decision, Accepted
        )


def test_a_scheduled_candidate_may_not_be_worse_on_fresh_rows() -> None:
    worse = replace(GOOD, fresh=versus(10, 60, 930), incumbent_bytes=90_000)
    decision = gate.decide(worse, LIMITS, rule="keep").decision
    assert isinstance(decision, Rejected)
    assert decision.reasons[0].startswith("fresh_margin_e_value")
    few = gate.decide(replace(worse, fresh=versus(0, 0, 50)), LIMITS, rule="keep").decision
    assert isinstance(few, Undecidable)
    assert few.need is not None
    assert 300 < few.need < 500  # the rule of three says 300; looking at any time costs some more


def test_an_added_version_needs_no_gain_and_no_fresh_rows() -> None:
    added = replace(GOOD, quantized=False, trusted=versus(0, 0, 500), fresh=None)
    assert isinstance(gate.decide(added, LIMITS, rule="admit").decision, Accepted)
    worse = replace(added, trusted=versus(0, 40, 460))
    assert isinstance(gate.decide(worse, LIMITS, rule="admit").decision, Rejected)


def test_the_first_model_is_only_loaded_and_measured() -> None:
    first = Evidence(variant="incumbent", bytes=60_000, p50_ms=0.1, p95_ms=0.2)
    assert isinstance(gate.decide(first, Limits(), rule="first").decision, Accepted)
    assert isinstance(gate.decide(first, LIMITS, rule="first").decision, Rejected)  # too large


def test_decide_wants_a_comparison_on_trusted_rows() -> None:
    with pytest.raises(ValueError, match="trusted rows"):
        gate.decide(replace(GOOD, trusted=None), LIMITS)


def judged(*evidence: Evidence) -> str:
    return gate.choose([(e, gate.decide(e, LIMITS)) for e in evidence])


FP32 = replace(GOOD, variant="fp32", quantized=False, bytes=45_000, p50_ms=0.1)
DYNAMIC = replace(GOOD, variant="dynamic_int8", bytes=29_000, p50_ms=0.052)


def test_choose_takes_the_fastest_of_equal_accuracy_and_the_smallest_of_equal_speed() -> None:
    assert judged(FP32, GOOD, DYNAMIC) == "dynamic_int8"
    assert judged(FP32, GOOD, replace(DYNAMIC, p50_ms=0.08)) == "static_int8"


def test_choose_prefers_accuracy_beyond_half_a_standard_error() -> None:
    assert judged(replace(FP32, accuracy=share(0.965)), GOOD, DYNAMIC) == "fp32"
    assert judged(replace(FP32, accuracy=share(0.953)), GOOD, DYNAMIC) == "dynamic_int8"


def test_choose_leaves_out_what_fails_and_does_not_look_at_fresh_labels() -> None:
    slow = replace(DYNAMIC, p50_ms=0.2)
    lucky = replace(FP32, fresh=versus(60, 0, 40))
    assert judged(lucky, replace(GOOD, fresh=versus(3, 30, 67)), slow) == "static_int8"


def test_choose_names_the_least_bad_when_all_fail() -> None:
    assert judged(replace(FP32, p95_ms=2.0), replace(GOOD, load_error="x")) in (
        "fp32",
        "static_int8",
    )
    assert judged(replace(FP32, p95_ms=2.0), replace(GOOD, p95_ms=2.0, p50_ms=0.2)) == "fp32"
