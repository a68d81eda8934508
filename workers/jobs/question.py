"""Question to a person: what the rows at hand cannot decide about a candidate, and every way to go
on, with its command. Pure."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence

from redistill.compress.judge import power
from redistill.compress.judge.gates.table import RULES
from redistill.compress.plan import Gate, NeedsPerson, Report

__all__ = ["WAIVABLE", "WAIVABLE_WHEN_ADDED", "question"]

WAIVABLE = frozenset(rule.name for rule in RULES if rule.split == "trusted")
"""Gates that a person may take upon themselves. The evidence of harm and of gain on fresh rows is
nobody's to waive, and a file that does not load serves nobody."""

WAIVABLE_WHEN_ADDED = WAIVABLE | {"worst_class", "worst_group"}
"""The same for a version that a person adds, which no fresh labels come in for: there these gates,
too, ask for trusted rows."""

JUDGING_SHARE = 0.8
"""Of trusted rows: the others only rank."""


def question(
    report: Report,
    decision: NeedsPerson,
    *,
    model: str,
    serving: str,
    again: str,
    cause: str | None = None,
) -> str:
    """What is missing, and the choices.

    Parameters
    ----------
    report, decision
        What was found about the candidate.
    model, serving
        Names of the model and of the version that serves.
    again
        The command that has the candidate judged again; it takes ``--waive``.
    cause
        What the diagnosis of the incident found; ``None``: it is about no incident.

    Returns
    -------
    str
        One line.
    """
    asked = [g for g in report.gates if g.passed is None and g.ask is not None]
    asked = asked or [
        Gate(
            name=decision.gate,
            value=None,
            limit=None,
            passed=None,
            why=decision.why,
            have=decision.have,
            need=decision.need,
            split="trusted",
            ask=decision.ask,
        )
    ]
    told = "; ".join(f"{g.name}: {g.why}" for g in asked)
    verified = next((g for g in asked if g.name == "verified"), None)
    rows = [g for g in asked if g.name != "verified"]
    waivable = WAIVABLE_WHEN_ADDED if report.mode == "baseline" else WAIVABLE
    given = [name for name in report.waived if name in waivable]
    kept = _waiving(again, given)
    lacks: list[str] = []
    source: list[str] = []  # what no way goes on without
    if verified is not None:
        lacks.append("rows labelled by another source than the one that taught the candidate")
        source.append(_second_source(verified, model))
    if rows and cause == "concept_change":
        lacks.append(
            "trusted rows that hold what is true now: those at hand may hold what was before"
        )
        bring = [_label_anew(rows)]
    else:
        lacks += ["trusted rows"] if rows else []
        bring = [_more_rows(rows)] if rows else []
    ways = [f"{', and '.join([*source, *bring])}, then `{kept}`"]
    names = [g.name for g in rows]
    if names and waivable.issuperset(names):
        own = f"take it upon yourself: `{_waiving(again, [*given, *names])}`"
        ways.append(", and ".join([*source, own]))
    if (back := _older_release(report, model, serving, cause)) is not None:
        ways.append(back)
    choices = "; ".join(f"({i}) {way}" for i, way in enumerate(ways, start=1))
    return f"needs a person: {' and '.join(lacks)}. {told}. Choose: {choices}"


def _waiving(again: str, names: Iterable[str]) -> str:
    """The command with gates to be waived: a waiver is for one judgement, so that those that were
    given before are given again."""
    options = " ".join(f"--waive {name}" for name in dict.fromkeys(names))
    return f"{again} {options} --reason TEXT" if options else again


def _second_source(gate: Gate, model: str) -> str:
    more = max(1, (gate.need or 0) - (gate.have or 0))
    return (
        f"have {more:,} more of the rows that were served since the change labelled by somebody"
        f" else: `redistill label import FILE --model {model} --source NAME`"
    )


def _more_rows(gates: Sequence[Gate]) -> str:
    needs = [g.need - (g.have or 0) for g in gates if g.need is not None]
    known = len(needs) == len(gates) and needs
    more = f"about {math.ceil(max(needs) / JUDGING_SHARE):,} more" if known else "more"
    return f"bring {more} trusted rows: `redistill register model.toml` with a larger file"


def _label_anew(gates: Sequence[Gate]) -> str:
    limits = (g.limit for g in gates if g.name == "trusted" and g.limit is not None)
    margin = abs(next(limits, -2.0))
    many = "as many as can be had"  # that nothing is lost is shown by a gain only
    if margin > 0:
        rows = math.ceil(power.rows_needed(margin / 100, power.USUAL_CHURN) / JUDGING_SHARE)
        many = f"about {rows:,}"
    return (
        f"label trusted rows anew, by what is true now, {many} for a margin of {margin:g} points:"
        " `redistill register model.toml` with that file"
    )


def _older_release(report: Report, model: str, serving: str, cause: str | None) -> str | None:
    """The earlier release that is best on trusted rows; ``None``: there is none, or none is better
    and nothing is wrong with what serves."""
    if not report.releases or report.incumbent is None:
        return None
    version, accuracy = max(report.releases.items(), key=lambda found: found[1].value)
    if cause is None and accuracy.value <= report.incumbent.trusted_accuracy.value:
        return None
    return (
        f"take an older release: `redistill rollback {model} --to {shlex.quote(version)}`, which is"
        f" right on {accuracy.value:.1%} of the trusted rows; {serving}, which serves, on"
        f" {report.incumbent.trusted_accuracy.value:.1%}"
    )
