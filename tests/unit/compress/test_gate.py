"""Gates together: what decides, in which order, and which variant is tested at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gate_evidence import alike, evidence, machines, scores, versus

from redistill.compress import gate
from redistill.compress.judge import policy
from redistill.compress.judge.evidence import Evidence, Machine, Sample
from redistill.compress.plan import Accepted, Gate, Measure, NeedsPerson, Rejected, Undecidable

POLICY = policy.of({"size": {"max_bytes": 50_000}, "latency": {"max_p95_ms": 1.0}})


def decide(e: Evidence, **more: Any) -> gate.Judgement:
    return gate.decide(e, POLICY, **more)


def gates(e: Evidence) -> dict[str, Gate]:
    return {g.name: g for g in decide(e).gates}


def test_decide_accepts_when_every_gate_passes() -> None:
    judged = decide(evidence())
    assert judged.decision == Accepted(variant="static_int8")
    assert all(g.passed for g in judged.gates)
    assert {g.name for g in judged.gates} >= {"loads", "size", "latency", "fresh", "trusted", "f1"}
    assert all(g.split is not None for g in judged.gates)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"machine": machines({"bytes": 60_000})}, "size"),
        ({"integer_operators": ()}, "quantized"),
        ({"machine": machines({"p95_ms": 1.5})}, "latency"),
        ({"fresh": versus(3, 40, 57)}, "fresh"),
        ({"trusted": versus(2, 60, 938)}, "trusted"),
        ({"unlabelled": alike(500, 50)}, "agreement"),
        ({"load_error": "corrupt"}, "loads"),
    ],
)
def test_decide_rejects_and_names_the_failed_gate(change: dict[str, Any], name: str) -> None:
    decision = decide(evidence(**change)).decision
    assert isinstance(decision, Rejected)
    assert name in [r.split(":")[0] for r in decision.reasons]


def test_decide_names_every_failed_gate_even_where_others_are_open() -> None:
    bad = evidence(machine=machines({"p95_ms": 2.0, "bytes": 60_000}), fresh=versus(0, 0, 0))
    decision = decide(bad).decision
    assert isinstance(decision, Rejected)
    assert {r.split(":")[0] for r in decision.reasons} == {"size", "latency"}


def test_decide_waits_for_fresh_labels_and_says_how_many() -> None:
    decision = decide(evidence(fresh=versus(4, 1, 15))).decision
    assert isinstance(decision, Undecidable)
    assert (decision.gate, decision.have) == ("fresh", 20)
    assert decision.need is not None
    assert 50 < decision.need < 400
    none = decide(evidence(fresh=versus(0, 0, 0))).decision
    assert isinstance(none, Undecidable)
    assert (none.have, none.need) == (0, None)


def test_too_few_trusted_rows_ask_a_person_but_only_for_a_candidate_that_is_better() -> None:
    few = versus(5, 6, 149)
    decision = decide(evidence(trusted=few)).decision
    assert isinstance(decision, NeedsPerson)
    assert (decision.gate, decision.have) == ("trusted", 160)
    assert decision.need is not None
    assert decision.need > 160
    assert "register more" in decision.ask
    waits = decide(evidence(trusted=few, fresh=versus(4, 1, 15))).decision
    assert isinstance(waits, Undecidable)


def test_a_person_may_waive_trusted_rows_and_nothing_else() -> None:
    worse = evidence(trusted=versus(2, 60, 938))
    who = "ada: rows of the old tariff"
    assert isinstance(decide(worse, waived={"trusted": who}).decision, Rejected), "F1 fell too"
    judged = decide(worse, waived={"trusted": who, "f1": who})
    assert isinstance(judged.decision, Accepted)
    shown = {g.name: g for g in judged.gates}["trusted"]
    assert shown.why.startswith("waived by ada: rows of the old tariff; against the incumbent")
    assert shown.value is not None
    assert shown.value < -2.0, "what was found is still told"
    harmful = evidence(fresh=versus(3, 40, 57))
    for name in ("fresh", "loads", "size", "futility"):
        assert isinstance(decide(harmful, waived={name: "eve"}).decision, Rejected)


# --- fresh rows are looked at last ---------------------------------------------------------------


@pytest.mark.parametrize(
    "refused",
    [
        {"machine": machines({"bytes": 60_000})},
        {"trusted": versus(2, 60, 938)},
        {"recipe": 4},
        {"load_error": "corrupt"},
    ],
)
def test_what_something_else_refuses_does_not_face_fresh_rows(refused: dict[str, Any]) -> None:
    judged = decide(evidence(**refused))
    assert isinstance(judged.decision, Rejected)
    assert not judged.faced
    assert {g.split for g in judged.gates} <= {"machine", "trusted"}


def test_fresh_rows_are_looked_at_where_trusted_rows_are_open_or_waived() -> None:
    few = decide(evidence(trusted=versus(5, 6, 149)))
    assert few.faced
    assert {"fresh", "futility"} <= {g.name for g in few.gates}
    who = {"trusted": "ada", "f1": "ada"}
    assert decide(evidence(trusted=versus(2, 60, 938)), waived=who).faced


def test_no_labelled_row_is_no_look() -> None:
    judged = decide(evidence(fresh=versus(0, 0, 0)))
    assert isinstance(judged.decision, Undecidable)
    assert not judged.faced


def test_gates_are_told_in_the_order_of_the_table() -> None:
    names = [g.name for g in decide(evidence()).gates]
    assert names.index("fresh") < names.index("trusted")


def test_where_no_incident_pays_for_it_every_gate_is_asked() -> None:
    judged = decide(evidence(requirement="keep", trusted=versus(2, 60, 938)))
    assert {"kept", "gain"} <= {g.name for g in judged.gates}
    assert judged.faced


def blind(auc: float, ledger: Sample) -> Evidence:
    """Labels of clerks taught it; the ledger's are those of somebody else."""
    clerks = versus(40, 1, 59)
    both = Sample(
        truth=np.concatenate([clerks.truth, ledger.truth]),
        scores={r: np.concatenate([s, ledger.scores[r]]) for r, s in clerks.scores.items()},
        source=("clerks",) * len(clerks) + ("ledger",) * len(ledger),
    )
    told = Measure(value=auc, low=auc, high=auc, n=100)
    return evidence(labels_in_loss=True, domain_auc=told, fresh=both, training_sources=("clerks",))


def test_labels_in_the_loss_need_verified_rows_where_the_trusted_gate_is_blind() -> None:
    decision = decide(blind(0.99, versus(2, 0, 8))).decision
    assert isinstance(decision, NeedsPerson)
    assert (decision.gate, decision.have, decision.need) == ("verified", 10, 100)


def test_verified_rows_and_not_the_sources_own_decide_where_the_trusted_gate_is_blind() -> None:
    decision = decide(blind(0.99, versus(1, 30, 80))).decision
    assert isinstance(decision, Rejected)
    assert decision.reasons[0].startswith("fresh")
    assert isinstance(decide(blind(0.99, versus(40, 1, 80))).decision, Accepted)


def test_labels_in_the_loss_need_no_verified_rows_where_domains_are_alike() -> None:
    assert isinstance(decide(blind(0.55, versus(0, 0, 0))).decision, Accepted)


def test_where_a_concept_changed_old_rows_ask_a_person_and_refuse_nobody() -> None:
    wrong = evidence(trusted=versus(0, 300, 700))
    assert isinstance(decide(wrong).decision, Rejected)
    changed = replace(wrong, cause="concept_change")
    decision = decide(changed).decision
    assert isinstance(decision, NeedsPerson)
    assert (decision.gate, decision.need) == ("trusted", None)
    assert "labelled since the concept changed" in decision.ask
    waived = {g.name: "cli:ann: old prices" for g in decide(changed).gates if g.split == "trusted"}
    judged = gate.decide(changed, policy.of({}), waived=waived)
    assert isinstance(judged.decision, Accepted)
    assert isinstance(decide(replace(changed, fresh=versus(3, 60, 37))).decision, Rejected)


def test_a_trade_looks_at_fresh_rows_last_and_counts_as_a_look() -> None:
    trade = policy.of({"trusted": {"trade": True}})
    lost = evidence(trusted=versus(7, 24, 969), fresh=versus(72, 2, 26))
    judged = gate.decide(lost, trade)
    assert isinstance(judged.decision, Accepted)
    large = gate.decide(replace(lost, machine=machines({"bytes": 10**9})), policy.of(
        {"trusted": {"trade": True}, "size": {"max_bytes": 1_000}}
    ))  # fmt: skip
    assert isinstance(large.decision, Rejected)
    assert large.faced is False
    assert "trusted" not in [g.name for g in large.gates]


def test_a_scheduled_candidate_needs_a_gain() -> None:
    same = evidence(requirement="keep", trusted=versus(0, 0, 1_000), fresh=versus(1, 1, 998))
    judged = decide(same)
    assert isinstance(judged.decision, Rejected)
    assert judged.decision.reasons[0].startswith("gain: no gain")
    large, slow = Machine(bytes=40_000), Machine(bytes=30_000, p50_ms=0.06)
    for gain in (
        {"machine": machines(incumbent=large)},
        {"machine": machines(incumbent=slow)},
        {"trusted": versus(20, 2, 978)},
        {"fresh": versus(30, 3, 967)},
    ):
        assert isinstance(decide(replace(same, **gain)).decision, Accepted), gain  # type: ignore[arg-type]


def test_a_scheduled_candidate_may_not_be_worse_on_fresh_rows() -> None:
    large = {"machine": machines(incumbent=Machine(bytes=90_000)), "requirement": "keep"}
    decision = decide(evidence(fresh=versus(10, 60, 930), **large)).decision
    assert isinstance(decision, Rejected)
    assert decision.reasons[0].startswith("kept")
    few = decide(evidence(fresh=versus(0, 0, 50), **large)).decision
    assert isinstance(few, Undecidable)
    assert few.need is not None
    assert 300 < few.need < 600  # the rule of three says 300; looking at any time costs some more


def test_an_added_version_needs_no_gain_and_no_fresh_rows() -> None:
    added = evidence(
        requirement="admit", quantized=False, trusted=versus(0, 0, 500), fresh=versus(0, 0, 0)
    )
    assert isinstance(decide(added).decision, Accepted)
    worse = replace(added, trusted=versus(0, 40, 460))
    assert isinstance(decide(worse).decision, Rejected)


def test_added_version_that_is_clearly_worse_is_refused_before_fresh_labels_are_looked_at() -> None:
    added = evidence(
        requirement="admit", quantized=False, trusted=versus(0, 40, 460), fresh=versus(90, 0, 910)
    )
    judged = decide(added)
    assert isinstance(judged.decision, Rejected)
    assert not judged.faced
    assert "kept" not in {g.name for g in judged.gates}
    alike = decide(replace(added, trusted=versus(0, 0, 500)))
    assert alike.faced, "one that is as good is judged on them, too"
    alone = decide(replace(added, fresh=versus(0, 0, 0)))
    assert "kept" in {g.name for g in alone.gates}, "without any there is nothing to spare"


def test_the_first_model_is_only_loaded_and_measured() -> None:
    alone = {"candidate": Machine(bytes=60_000, p50_ms=0.1, p95_ms=0.2)}
    first = Evidence(variant="incumbent", task=evidence().task, requirement="first", machine=alone)
    assert isinstance(gate.decide(first, policy.of({})).decision, Accepted)
    assert isinstance(decide(first).decision, Rejected)  # too large


def test_decide_wants_a_comparison_on_trusted_rows() -> None:
    with pytest.raises(ValueError, match="trusted rows"):
        decide(evidence(trusted=versus(0, 0, 0)))


# --- the choice among variants -------------------------------------------------------------------


def chosen(*found: Evidence) -> str:
    return gate.choose([(e, decide(e)) for e in found])


def ranked(wrong: int, n: int = 500) -> Sample:
    right = np.arange(n) >= wrong
    return Sample(truth=np.zeros(n, np.int64), scores={"candidate": scores(right)})


INT8 = evidence(ranking=ranked(25))
FP32 = replace(
    INT8, variant="fp32", quantized=False, machine=machines({"bytes": 45_000, "p50_ms": 0.07})
)
DYNAMIC = replace(
    INT8, variant="dynamic_int8", machine=machines({"bytes": 29_000, "p50_ms": 0.052})
)


def test_choose_takes_the_fastest_of_equal_accuracy_and_the_smallest_of_equal_speed() -> None:
    assert chosen(FP32, INT8, DYNAMIC) == "dynamic_int8"
    slow = replace(DYNAMIC, machine=machines({"bytes": 29_000, "p50_ms": 0.08}))
    assert chosen(FP32, INT8, slow) == "static_int8"


def test_choose_prefers_accuracy_beyond_half_a_standard_error() -> None:
    assert chosen(replace(FP32, ranking=ranked(17)), INT8, DYNAMIC) == "fp32"
    assert chosen(replace(FP32, ranking=ranked(24)), INT8, DYNAMIC) == "dynamic_int8"


def test_choose_ranks_nothing_by_a_handful_of_rows() -> None:
    few = ranked(0, 10)
    assert chosen(replace(FP32, ranking=few), replace(DYNAMIC, ranking=ranked(5, 10))) == (
        "dynamic_int8"
    )


def test_choose_looks_at_no_label_that_a_gate_looks_at() -> None:
    slow = replace(DYNAMIC, machine=machines({"bytes": 29_000, "p50_ms": 0.2}))
    lucky = replace(FP32, fresh=versus(60, 0, 40), trusted=versus(60, 0, 940))
    unlucky = replace(INT8, fresh=versus(3, 60, 37), trusted=versus(0, 80, 920))
    assert chosen(lucky, unlucky, slow) == "static_int8"


@pytest.mark.parametrize("rows", [500, 10], ids=["ranked", "not ranked"])
@pytest.mark.parametrize("own", [{"p95_ms": 2.0}, {"p95_ms": 2.0, "bytes": 60_000}])
def test_choose_takes_one_that_loads_where_any_does(rows: int, own: dict[str, Any]) -> None:
    broken = Evidence(
        variant="dynamic_int8", task=INT8.task, requirement="beat", load_error="no such operator"
    )
    bad = replace(FP32, ranking=ranked(5, rows), machine=machines({"p50_ms": None, **own}))
    assert chosen(broken, bad) == "fp32"
    assert chosen(broken, replace(broken, variant="static_int8")) == "dynamic_int8"


def test_choose_names_the_least_bad_when_all_fail() -> None:
    slow = replace(FP32, machine=machines({"bytes": 45_000, "p95_ms": 2.0}))
    slower = replace(INT8, machine=machines({"p95_ms": 2.0, "bytes": 60_000}))
    assert chosen(slow, slower) == "fp32"
