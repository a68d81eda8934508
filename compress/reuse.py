"""Reuse of an earlier release as a candidate: nothing is made, the same gates judge it on the same
rows.

Which release it is, and whether any is worth one of the incident's few looks at fresh labels, is
decided by the training side alone: how often each answers what the teacher answers, on rows that no
gate sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from redistill.compress import data, judging, trusted_rows
from redistill.compress.errors import BadJob, BadModel
from redistill.compress.folder import JobContext
from redistill.compress.judge import intervals
from redistill.compress.judge.measures import Classes
from redistill.compress.judge.probe import Probe
from redistill.compress.plan import JobSpec, Rejected, Report
from redistill.compress.rows import Rows
from redistill.compress.steps import array_key, key_of
from redistill.decodable import decodable
from redistill.files import sha256_of, write

__all__ = ["NAME", "gate", "repair"]

NAME = "reuse"
"""Of the recipe, and of the variant that it judges."""
LEAST_REGAINED = 0.5
"""Share of the rows on which the incumbent answers otherwise than its teacher that a release has to
win back: with less a distilled student is expected to do better, and costs seconds."""
POINTS = 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which earlier release becomes the candidate."""

    version: str | None
    """``None``: none is worth it."""
    why: str
    """A sentence with the figures, for people."""


@decodable
class ChosenRelease(msgspec.Struct, frozen=True, kw_only=True):
    """What the step ``reuse`` wrote."""

    version: str
    sha256: str
    """Of its file."""
    why: str


def choose(
    teacher: Classes, incumbent: Classes, releases: Mapping[str, Classes], *, least: float
) -> Choice:
    """The earlier release that answers most often what the teacher answers.

    Parameters
    ----------
    teacher, incumbent
        ``(n,)`` classes on training rows; -1: no answer, which agrees with nothing.
    releases
        The same by version; the first of equals is taken.
    least
        Share of the incumbent's disagreement that has to be won back.

    Returns
    -------
    Choice
        None where no release surely agrees more often than the incumbent (95% score interval of the
        paired difference, Tango 1998), or none wins back enough.

    Examples
    --------
    >>> teacher, incumbent = np.zeros(200, int), np.repeat([0, 1], [120, 80])
    >>> choose(teacher, incumbent, {"v1": np.zeros(200, int)}, least=0.5).version
    'v1'
    >>> choose(teacher, incumbent, {"v1": incumbent}, least=0.5).version is None
    True
    """
    agreed = incumbent == teacher
    best: tuple[float, str, str] | None = None
    wanted = least * float(1.0 - agreed.mean())
    refused = []
    for version, classes in releases.items():
        d = ((classes == teacher) & (teacher >= 0)).astype(np.float64) - agreed
        low, high = intervals.paired_mean(d)
        gained = float(d.mean())
        told = (
            f"{version} answers as the teacher does on {np.mean(classes == teacher):.1%} of"
            f" {len(teacher):,} training rows, the incumbent on {agreed.mean():.1%}:"
            f" {gained * POINTS:+.1f} points [{low * POINTS:+.1f}, {high * POINTS:+.1f}]"
        )
        if low <= 0.0:
            refused.append(f"{told}, which is not surely more")
        elif gained < wanted:
            refused.append(f"{told}, and {wanted * POINTS:.1f} are asked for")
        elif best is None or gained > best[0]:
            best = gained, version, told
    if best is None:
        return Choice(version=None, why="; ".join(refused) or "no earlier release can be run")
    return Choice(version=best[1], why=best[2])


def repair(context: JobContext) -> Report:
    """Choose an earlier release and judge it; refuse at once where none is worth a look.

    Raises
    ------
    BadData, BadModel, BadJob, DeadlineExceeded
        It could not be done.
    """
    fresh, trusted = context.read("fresh"), context.read("trusted")
    train, repeated, _ = data.unique_rows(fresh.take(~fresh.gate))
    trained = data.digests(train.x)
    rows, dropped = data.gate_rows(fresh, trained)
    counts = {
        "fresh": len(fresh),
        "dropped_duplicates": repeated,
        "train": len(train),
        "gate": len(rows),
        "gate_labelled": int(rows.labelled.sum()),
        "dropped_gate": dropped,
        "trusted": len(trusted),
    }
    teacher = context.graph("teacher").classes(train.x)
    incumbent = context.graph("incumbent").classes(train.x)
    answered = {}
    for version in context.job.releases:
        try:
            answered[version] = context.graph(_role(context.job, version)).classes(train.x)
        except BadModel as error:
            context.warnings.append(f"release {version} cannot be reused: {error}")
    choice = choose(teacher, incumbent, answered, least=LEAST_REGAINED)
    if choice.version is None:
        return _refused(context, counts, choice.why)
    sha256 = sha256_of(context.path(_role(context.job, choice.version)))
    chosen = ChosenRelease(version=choice.version, sha256=sha256, why=choice.why)
    key = key_of(NAME, array_key(train.x), chosen)
    context.steps.make(
        NAME, key, lambda out: write(out, msgspec.json.encode(chosen)), suffix=".json"
    )
    facts = judging.TrainingFacts(
        counts=counts,
        labels_in_loss=False,
        training_sources=(),
        domain_auc=None,
        warnings=tuple(context.warnings),
        candidates=(NAME,),
    )
    key = key_of("facts", array_key(train.x), array_key(rows.x), array_key(trusted.x))
    context.steps.make("facts", key, lambda out: judging.save_facts(out, facts, trained))
    return _judged(context, chosen, facts, fresh=fresh, gate_rows=rows, trusted=trusted)


def gate(context: JobContext) -> Report:
    """Judge the release that was chosen before with the gate rows that there are now.

    Raises
    ------
    BadJob
        None was chosen.
    """
    facts, trained = judging.read_facts(context.steps.finished("facts"))
    content = context.steps.finished(NAME).read_bytes()
    chosen = msgspec.json.decode(content, type=ChosenRelease)
    if chosen.version not in context.job.releases:
        why = f"release {chosen.version}, which was chosen before, may not serve any more"
        return _refused(context, facts.counts, why)
    fresh = context.read("fresh")
    trusted, known = trusted_rows.untrained(context.read("trusted"), trained)
    if known:
        context.warnings.append(f"{known} trusted rows helped to choose the release: left out")
    rows, dropped = data.gate_rows(fresh, trained)
    counts = facts.counts | {
        "fresh": len(fresh),
        "gate": len(rows),
        "gate_labelled": int(rows.labelled.sum()),
        "dropped_gate": dropped,
        "trusted": len(trusted),
    }
    facts = msgspec.structs.replace(facts, counts=counts)
    return _judged(context, chosen, facts, fresh=fresh, gate_rows=rows, trusted=trusted)


def _judged(
    context: JobContext,
    chosen: ChosenRelease,
    facts: judging.TrainingFacts,
    *,
    fresh: Rows,
    gate_rows: Rows,
    trusted: Rows,
) -> Report:
    """What the gates say of a release."""
    role = _role(context.job, chosen.version)
    path = context.path(role)
    if sha256_of(path) != chosen.sha256:
        raise BadJob(f"{role}/model.onnx is not the file of {chosen.version} that was chosen")
    context.warnings.append(f"nothing was made: {chosen.why}")
    with Probe.start() as child:
        answers = judging.probe(context, child, {NAME: path}, trusted, role=role)
    report = judging.judge(
        context,
        role=role,
        variants={NAME: path},
        training=None,
        facts=facts,
        answers=answers,
        fresh=fresh,
        gate_rows=gate_rows,
        trusted=trusted,
        chosen=NAME,
    )
    return replace(report, reused=chosen.version)


def _refused(context: JobContext, counts: dict[str, int], why: str) -> Report:
    """No release faces any label."""
    job = context.job
    return context.report(
        counts,
        decision=Rejected(reasons=(why,)),
        recipe=job.recipe,
        recipe_name=NAME,
        tried=job.tried,
    )


def _role(job: JobSpec, version: str) -> str:
    """Where a release lies in the job's folder."""
    return f"best/{job.releases.index(version) + 1}"
