"""Causes of a loss, one small rule each, in the order in which they are asked. Pure.

A rule reads the symptoms and says what it holds to be the cause, and why, or has no opinion. The
first that has one is believed: what makes labels or rows worthless is asked before what is read
from them. A cause explains a loss when it surely has a part in it, and makes up half or more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redistill.compress.judge.breakage import Broken
from redistill.compress.judge.points import POINTS, surely
from redistill.compress.judge.symptoms import Symptoms
from redistill.compress.plan import Cause, ColumnCheck, Measure

__all__ = ["RULES"]

MIN_LABELS = 20
"""Below this a loss cannot be divided between student and teacher."""
HALF = 0.5
"""A cause explains a loss from this share of it on."""
NEARLY_ALL = 0.7
"""From this share on a loss is as good as given back: 300 rows tell no better."""
HARMS = 0.25
"""Share of what mending gives the student that the teacher may seem to lose by it."""
SCALED = 1.3
"""Another scale: a slope outside 1/1.3 to 1.3; a slope of 1 with an offset is a shift."""
FEW = 0.2
"""Less than this share of a loss is no part of its explanation."""
SMALL_POINTS = 5.0
"""A loss surely below this is none, where it is not known what raised the alarm; where it is, half
of that."""
MIX_CHANCE = 0.01
"""Classes whose counts would differ so much by chance more rarely than this have another mix."""
BROKEN_RULES = frozenset(
    {"missing", "wrong_type", "out_of_range", "unseen_category", "constant", "repeated"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """A cause, and how it is told."""

    cause: Cause
    why: str
    columns: tuple[str, ...] = ()


def points(m: Measure) -> str:
    """Points with their interval, as people read them."""
    return f"{m.value:.1f} points [{m.low:.1f}, {m.high:.1f}]"


def percent(m: Measure) -> str:
    """A share with its interval."""
    return f"{m.value:.0%} [{m.low:.0%}, {m.high:.0%}]"


def few_labels(s: Symptoms) -> Verdict | None:
    """Nothing can be divided yet."""
    if s.lost is not None and s.labelled >= MIN_LABELS:
        return None
    return Verdict(
        cause="unclear", why=f"{s.labelled} labelled fresh rows, {MIN_LABELS} are needed"
    )


def labels_suspect(s: Symptoms) -> Verdict | None:
    """Two sources contradict each other, so often that it explains the loss."""
    second = s.second
    if second is None or not second.suspect:
        return None
    if surely(s.lost) and not _explains(second.differ.value * POINTS, s.lost):
        return None
    return Verdict(
        cause="labels_suspect",
        why=f"two sources differ on {percent(second.differ)} of {second.differ.n} rows that both"
        f" labelled, more than the usual {second.allowed:.1%}; by the second source the student is"
        f" better by {points(second.by_second)}: see which of them is right",
    )


def data_bug(s: Symptoms) -> Verdict | None:
    """Columns arrive broken, and that costs what was lost, or undoing it gives it back."""
    for broken in sorted(s.broken, key=_weight, reverse=True):
        if why := _guilty(broken, s):
            return Verdict(cause="data_bug", why=why, columns=broken.columns)
    tried = {c.column for b in s.broken for c in b.checks}
    for check in s.checks:  # open, and these rows do not show what is wrong
        if check.open and check.contributes and check.column not in tried:
            return Verdict(
                cause="data_bug",
                why=f"open contract finding on {check.column}, which is among the columns that"
                " moved: mend the data first",
                columns=(check.column,),
            )
    return None


def _weight(broken: Broken) -> float:
    tried = broken.student.regained or broken.student.costs
    return -1e9 if tried is None else tried.value


def _guilty(broken: Broken, s: Symptoms) -> str | None:
    """Why broken columns explain the loss; ``None``: they do not."""
    names, back, costs = _listed(broken), broken.student.regained, broken.student.costs
    if back is not None and surely(back) and _restores(broken, s):
        return f"with {names} put back, the student regains {points(back)}: mend the data first"
    if not any(c.contributes for c in broken.checks):
        return None
    sure = any(c.open or c.rule in BROKEN_RULES for c in broken.checks)
    if costs is None:
        return f"{names}: mend the data first" if any(c.open for c in broken.checks) else None
    taught = None if broken.teacher is None else broken.teacher.costs
    enough = _could_be_all(costs, s.lost) or (
        taught is not None and surely(s.teacher_lost) and _could_be_all(taught, s.teacher_lost)
    )
    if sure and surely(costs) and enough:
        return f"{names}; the same done to trusted rows costs {points(costs)}: mend the data first"
    return None


def _restores(broken: Broken, s: Symptoms) -> bool:
    """Whether undoing a break gives back what was lost, and is not merely another world.

    Inputs that moved by nature give no model more when they are moved back: the answers moved with
    them. So the teacher has to regain what it lost; one that loses nothing by the break may at
    least not lose by the mending, and then only another *scale*, which gives the student nearly all
    back, is a break: an offset may be a shift that the teacher knows. By luck a part of moved rows
    may be answered right where they are put, so an offset has to give nearly all back in any case.
    """
    back = broken.student.regained
    taught = None if broken.teacher is None else broken.teacher.regained
    assert back is not None
    scaled = all(c.slope and not 1 / SCALED < c.slope < SCALED for c in broken.checks)
    need = HALF if scaled else NEARLY_ALL
    if not _explains(back.value, s.lost, need):
        return False
    if taught is None:
        return True
    if surely(taught):
        return surely(s.teacher_lost) and _explains(taught.value, s.teacher_lost, need)
    assert taught.high is not None
    copes = surely(s.quantization) and _explains(_value(s.quantization), s.lost)
    harmed = taught.high < 0.0 or taught.value < -HARMS * back.value
    return scaled and _explains(back.value, s.lost, NEARLY_ALL) and not harmed and not copes


def _listed(broken: Broken) -> str:
    return ", ".join(dict.fromkeys(_said(c) for c in broken.checks[:5]))


def _said(check: ColumnCheck) -> str:
    match check.rule:
        case "missing":
            said = f"{check.column} missing in {check.value:.0%} of rows"
        case "unit_change" | "rescaled" if check.slope is not None:
            sign = "+" if (check.intercept or 0.0) >= 0 else "-"
            said = (
                f"{check.column} at {check.slope:.3g} x its usual values {sign}"
                f" {abs(check.intercept or 0.0):.3g}"
            )
            if check.share < 1.0:
                said += f" in {check.share:.0%} of rows"
        case "constant":
            said = f"{check.column} constant"
        case "repeated":
            said = f"{check.column} = {check.intercept:g} in {check.value:.0%} of rows"
        case rule:
            said = f"{check.column} {rule.replace('_', ' ')} in {check.value:.0%} of rows"
    return said + (" (an open finding)" if check.open else "")


def no_loss(s: Symptoms) -> Verdict | None:
    """No loss is shown, or not the alarm's: there is none, or more labels must show it."""
    lost, shown = s.lost, surely(s.lost)
    assert lost is not None
    if not shown and (mixed := prior_shift(s)) is not None:
        return mixed
    said = f"the student lost {points(lost)} on {s.labelled} labelled rows"
    if s.harmed_slices:  # of all rows a small slice is little, however bad it is
        where = ", ".join(s.harmed_slices[:3])
        why = f"{said}: harm is shown in {where}, which is part of them"
        return None if shown else Verdict(cause="unclear", why=why)
    small = SMALL_POINTS if s.raised_points is None else s.raised_points / 2
    small = max(s.tolerance_points, small)
    quiet = s.raised_points is not None if shown else not surely(s.recoverable)
    if quiet and s.lost_at_most is not None and s.lost_at_most < small:
        return Verdict(cause="none", why=f"{said}: surely less than {small:.1f}")
    if shown:
        return None
    return Verdict(cause="unclear", why=f"{said}: no loss to be divided yet")


def stale_quantization(s: Symptoms) -> Verdict | None:
    """The same student in fp32 kept what its int8 lost."""
    if not (s.quantization_at_least or 0.0) > 0.0:
        return None
    if not _explains(_value(s.quantization), s.lost):
        return None
    assert s.quantization is not None
    return Verdict(
        cause="stale_quantization",
        why=f"{_told(s)}; the same student in fp32 kept {points(s.quantization)} of it: its int8"
        " ranges are those of other rows",
    )


def prior_shift(s: Symptoms) -> Verdict | None:
    """Other classes are frequent now, each is answered as well as before."""
    mix = s.mix
    if mix is None or mix.chance >= MIX_CHANCE or not surely(mix.explained):
        return None
    if surely(s.lost) and not _explains(mix.explained.value, s.lost):
        return None
    if surely(s.lost) and _explains(mix.rest.value, s.lost):
        return None
    kept = surely(s.lost) and _explains(_value(s.recoverable), s.lost)
    part = s.lost is not None and mix.rest.value > FEW * s.lost.value
    if s.moved_within and (kept or part):
        return None
    if kept and not surely(s.teacher_lost):
        return None  # the teacher copes with that mix
    return Verdict(
        cause="prior_shift",
        why=f"{_told(s)}; other classes are frequent now ({mix.moved:.0%} of rows), which explains"
        f" {points(mix.explained)} of it",
    )


def compression_gap(s: Symptoms) -> Verdict | None:
    """The teacher kept what the student lost."""
    if not (s.recoverable_at_least or 0.0) > 0.0:
        return None
    if not _explains(_value(s.recoverable), s.lost):
        return None
    assert s.recoverable is not None
    assert s.lost is not None
    return Verdict(
        cause="compression_gap",
        why=f"{_told(s)}: {points(s.recoverable)} of the loss are the student's own",
    )


def harder_mix(s: Symptoms) -> Verdict | None:
    """Rows on which the model always was wrong more often are frequent now; on rows of the same
    kind it is as good as it was."""
    moved, worse = s.mix_moved, s.got_worse
    if moved is None or worse is None or not surely(moved) or surely(worse):
        return None
    if moved.value < HALF * (moved.value + max(worse.value, 0.0)):
        return None
    if worse.high is None or worse.high >= max(s.tolerance_points, HALF * moved.value):
        return None  # as much again may be hidden in it
    return Verdict(
        cause="harder_mix",
        why=f"{_told(s)}; the mix of rows moved to those on which it always was wrong more often,"
        f" which explains {points(moved)}, and on rows of the same kind it lost {points(worse)}",
    )


def world(s: Symptoms) -> Verdict | None:
    """The teacher lost it too: at inputs that it did not know, or at those that it knew."""
    if s.recoverable is None or not surely(s.teacher_lost):
        return None
    moved = s.moved_within or tuple(c.column for c in s.checks if c.contributes)
    same = Verdict(
        cause="concept_change",
        why=f"{_told(s)}; at inputs that there were before, the answers are others now",
    )
    if s.domain_auc is None or not surely(s.domain_auc, 0.5):
        return same
    elsewhere = Verdict(
        cause="unknown_covariate",
        why=f"{_told(s)}; it is lost where inputs are unlike those before"
        + (f" ({', '.join(moved[:5])})" if moved else ""),
        columns=moved,
    )
    if s.divided is None:
        return elsewhere  # they share too little: nobody can have known these inputs
    at_same, at_moved = s.divided.same_inputs, s.divided.moved_inputs
    if surely(at_same) and _explains(at_same.value, s.teacher_lost):
        return same
    if surely(at_moved) and _explains(at_moved.value, s.teacher_lost):
        return elsewhere
    return None


def unclear(s: Symptoms) -> Verdict | None:
    """Something was lost, and nothing explains half of it yet."""
    if s.recoverable is None:
        why = f"{_told(s)}; without a teacher its cause cannot be told"
    else:
        why = f"{_told(s)}: no cause explains half of it yet, more labels are needed"
    return Verdict(cause="unclear", why=why)


Rule = Callable[[Symptoms], Verdict | None]

RULES: Sequence[Rule] = (
    few_labels,
    labels_suspect,
    data_bug,
    no_loss,
    stale_quantization,
    prior_shift,
    compression_gap,
    harder_mix,
    world,
    unclear,
)
"""The first that has an opinion is believed; the last always has one."""


def _value(m: Measure | None) -> float:
    return 0.0 if m is None else m.value


def _explains(part: float, lost: Measure | None, share: float = HALF) -> bool:
    return lost is None or part >= share * lost.value


def _could_be_all(part: Measure, lost: Measure | None) -> bool:
    """Whether a certain part explains half of a loss, or all of it as far as is known."""
    return _explains(part.value, lost) or lost is None or (lost.low or 0.0) <= part.value


def _told(s: Symptoms) -> str:
    assert s.lost is not None
    said = f"the student lost {points(s.lost)} on {s.labelled} labelled rows"
    if s.teacher_lost is not None:
        said += f", its teacher {points(s.teacher_lost)}"
    if s.disagreement is not None:
        said += f"; they differ on {s.disagreement.value:.0%} of {s.disagreement.n} rows"
    return said
