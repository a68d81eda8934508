"""What a rule answers: figures and violations, which may come from two sources."""

from __future__ import annotations

from redistill.workers.invariants.rule import RuleResult


def test_database_and_topics_answer_for_one_rule() -> None:
    rows = RuleResult(figures={"counted": 90}, violations=["a gap"])
    topics = RuleResult(figures={"pending": 40}, violations=["beyond the end"])
    assert rows.with_more(topics) == RuleResult(
        figures={"counted": 90, "pending": 40}, violations=["a gap", "beyond the end"]
    )
    assert rows == RuleResult(figures={"counted": 90}, violations=["a gap"])


def test_result_without_violations_holds() -> None:
    assert RuleResult(figures={}).violations == []
