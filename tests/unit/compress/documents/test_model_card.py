"""Model card: what a job knows, in the paper's sections; what it does not know is None."""

from __future__ import annotations

import json
from dataclasses import replace

from judged_reports import carded, lineage_of, report

from redistill.compress.documents import model_card
from redistill.compress.plan import CardText, Gate, GraphSpec, JobSpec

GRAPH = GraphSpec(features=("a",), classes=("no", "yes"))


def test_every_figure_is_measured_and_has_its_interval_and_rows() -> None:
    card, _ = carded()
    figures = card.quantitative.measured
    assert {f.model for f in figures} == {"candidate", "incumbent", "teacher"}
    assert {f.rows for f in figures} == {"trusted", "fresh"}
    assert {f.part for f in figures} == {None, "class region=EU", "region=EU"}
    for f in figures:
        assert f.measure.n > 0
        assert f.measure.low is not None
        assert f.measure.high is not None


def test_estimates_are_no_measured_figures() -> None:
    gate = Gate(name="fresh", value=3.0, limit=200.0, passed=None, why="", need=900)
    card, _ = carded(gates=(gate,))
    assert [(e.value, e.unit) for e in card.quantitative.estimated] == [
        (900.0, "rows"),
        (40.0, "J"),
    ]
    assert card.caveats.open == ("fresh: ",)


def test_fresh_rows_that_nobody_looked_at_are_no_evaluation_data() -> None:
    fresh = replace(lineage_of().judged_on[0], role="fresh")
    lineage = lineage_of(judged_on=(fresh, *lineage_of().judged_on))
    job = JobSpec(job_id="", model="m", graph=GRAPH)
    for faced, roles in ((True, ["fresh", "trusted"]), (False, ["trusted"])):
        card = model_card.gather(job, report(faced=faced), lineage, made_by=None)
        assert [s.role for s in card.evaluation_data] == roles
        assert ("fresh" in {f.rows for f in card.quantitative.measured if f.part is None}) is False


def test_only_gates_that_did_not_pass_by_themselves_were_waived() -> None:
    card, _ = carded(name="ann")
    assert card.caveats.waived == {"trusted": "ann"}
    passed = Gate(name="trusted", value=1.0, limit=0.0, passed=True, why="better by itself")
    unused, _ = carded(name="ann", gates=(passed,))
    assert unused.caveats.waived == {}


def test_what_nobody_told_is_none_and_what_the_owner_told_is_kept() -> None:
    card, _ = carded()
    assert card.intended_use.primary_uses is None
    assert card.ethical_considerations is None
    assert card.details.license is None
    told, _ = carded(text=CardText(intended_use="ranking", caveats="few rows of 2024"))
    assert told.intended_use.primary_uses == "ranking"
    assert told.caveats.from_owner == "few rows of 2024"


def test_json_is_canonical() -> None:
    data = model_card.to_json(carded()[0])
    assert data == model_card.to_json(carded()[0])
    assert list(json.loads(data)) == sorted(json.loads(data))
