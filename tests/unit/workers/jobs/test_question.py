"""What a person is asked: what is missing, every way to go on, and its command."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from job_worker import report

from redistill.compress.plan import Gate, Measure, NeedsPerson, Report, Variant
from redistill.workers.jobs.question import WAIVABLE, question

TRUSTED = Gate(
    name="trusted", value=-2.5, limit=-2.0, passed=None, why="bounds [-2.5, +1.0]",
    split="trusted", have=400, need=560, ask="trusted rows",
)  # fmt: skip
APPROVE = "redistill incidents approve 3f2a81c0"


def measure(value: float) -> Measure:
    return Measure(value=value, low=None, high=None, n=400)


def asks(*gates: Gate, **more: Any) -> Report:
    first = next(g for g in gates if g.passed is None)
    missing = NeedsPerson(
        gate=first.name, have=first.have or 0, need=first.need, why=first.why, ask=first.ask or ""
    )
    return report(more.pop("mode", "repair"), missing, gates=gates, **more)


def ask(found: Report, **more: Any) -> str:
    assert isinstance(found.decision, NeedsPerson)
    given: dict[str, Any] = {"model": "credit", "serving": "v3", "again": APPROVE}
    return question(found, found.decision, **given | more)


def served(accuracy: float) -> Variant:
    return Variant(
        name="incumbent", sha256="a" * 64, bytes=1, p50_ms=0.1, p95_ms=0.1,
        trusted_accuracy=measure(accuracy), fresh_accuracy=None, agreement=None,
    )  # fmt: skip


def test_too_few_trusted_rows_name_how_many_more_and_the_waiver() -> None:
    assert ask(asks(TRUSTED), cause="unknown") == (
        "needs a person: trusted rows. trusted: bounds [-2.5, +1.0]. Choose: (1) bring about 200"
        f" more trusted rows: `redistill register model.toml` with a larger file, then `{APPROVE}`;"
        f" (2) take it upon yourself: `{APPROVE} --waive trusted --reason TEXT`"
    )  # one in five of the new rows only ranks


def test_number_of_rows_is_said_only_where_it_is_known() -> None:
    assert "bring more trusted rows" in ask(asks(replace(TRUSTED, need=None)))


def test_older_release_is_the_best_of_them_on_trusted_rows() -> None:
    found = asks(
        TRUSTED, incumbent=served(0.92), releases={"v 1": measure(0.95), "v2": measure(0.91)}
    )
    told = ask(found, cause="compression_gap")
    assert "`redistill rollback credit --to 'v 1'`, which is right on 95.0% of" in told
    assert "v3, which serves, on 92.0%" in told


def test_worse_release_is_offered_only_where_something_is_wrong() -> None:
    found = asks(TRUSTED, incumbent=served(0.92), releases={"v2": measure(0.91)})
    assert "rollback" not in ask(found)
    assert "rollback credit --to v2" in ask(found, cause="unknown")


def test_changed_concept_spells_out_waive_label_anew_and_older_release() -> None:
    wrong = replace(TRUSTED, why="bounds [-31.0, -28.0]", need=None)
    found = asks(wrong, incumbent=served(0.92), releases={"v2": measure(0.91)})
    told = ask(found, cause="concept_change")
    assert told.startswith("needs a person: trusted rows that hold what is true now")
    assert "label trusted rows anew, by what is true now, about 698 for a margin of 2" in told
    assert "--waive trusted --reason TEXT`" in told
    assert "rollback credit --to v2" in told


def test_margin_of_nothing_is_told_as_it_is() -> None:
    wrong = replace(TRUSTED, limit=0.0, need=None)
    told = ask(asks(wrong, incumbent=served(0.92)), cause="concept_change")
    assert "by what is true now, as many as can be had for a margin of 0 points" in told


def test_verified_rows_come_from_another_source_and_cannot_be_waived() -> None:
    verified = Gate(
        name="verified", value=10.0, limit=100.0, passed=None, why="10 of 100", split="fresh",
        have=10, need=100, ask="rows labelled by another source",
    )  # fmt: skip
    told = ask(asks(verified, replace(TRUSTED, passed=True)))
    assert told.startswith("needs a person: rows labelled by another source than")
    assert (
        "have 90 more of the rows that were served since the change labelled by somebody else:"
        in told
    )
    assert f"`redistill label import FILE --model credit --source NAME`, then `{APPROVE}`" in told
    assert "--waive" not in told


def test_every_open_gate_of_trusted_rows_is_waived_by_one_command() -> None:
    both = ask(asks(TRUSTED, replace(TRUSTED, name="f1", why="worse")))
    assert "--waive trusted --waive f1 --reason TEXT" in both
    assert "trusted: bounds [-2.5, +1.0]; f1: worse." in both


def test_waivers_that_were_given_are_given_again_with_those_that_are_missing() -> None:
    given = {"f1": "cli:ann: known", "gone": "cli:ann: a gate of an older release"}
    told = ask(asks(TRUSTED, waived=given))
    assert f"with a larger file, then `{APPROVE} --waive f1 --reason TEXT`" in told
    assert f"yourself: `{APPROVE} --waive f1 --waive trusted --reason TEXT`" in told


def test_no_choice_leaves_out_what_every_way_needs() -> None:
    verified = Gate(
        name="verified", value=10.0, limit=100.0, passed=None, why="10 of 100", split="fresh",
        have=10, need=100, ask="rows labelled by another source",
    )  # fmt: skip
    told = ask(asks(verified, TRUSTED))
    source = "`redistill label import FILE --model credit --source NAME`, and "
    assert "taught the candidate and trusted rows. verified: " in told
    assert f"{source}bring about 200 more trusted rows: " in told
    assert f"{source}take it upon yourself: `{APPROVE} --waive trusted --reason TEXT`" in told


def test_waiver_that_would_not_be_enough_is_no_choice() -> None:
    told = ask(asks(TRUSTED, replace(TRUSTED, name="worst_class")))
    assert "--waive" not in told


@pytest.mark.parametrize("gate", ["fresh", "loads", "verified", "size", "futility"])
def test_what_does_not_look_at_trusted_rows_is_nobodys_to_waive(gate: str) -> None:
    assert gate not in WAIVABLE
    assert "trusted" in WAIVABLE


def test_added_version_may_be_let_in_though_a_class_is_too_rare_to_judge() -> None:
    rare = replace(TRUSTED, name="worst_class")
    assert "--waive" not in ask(asks(rare))
    assert "--waive worst_class --reason TEXT" in ask(asks(rare, mode="baseline"))


def test_decision_without_its_gate_is_told_by_itself() -> None:
    missing = NeedsPerson(gate="trusted", have=4, need=9, why="few", ask="rows")
    assert "trusted: few. Choose: (1) bring about 7 more" in ask(report(decision=missing))
