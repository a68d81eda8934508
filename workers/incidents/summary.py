"""Summary of an incident for people, in the order in which somebody on call asks: how bad, since
when, where, what to type; then why; then what redistill does about it. Commands, alerts and reports
tell it in these words. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redistill.streams.wire import sentences

__all__ = ["Summary", "finding_objects", "readable", "summarised"]

Row = Mapping[str, Any]

LONGEST = 4_000
"""Characters of a sentence; whoever has less room cuts it."""
CLASSES = {"data_bug": "broken data", "harm": "harm"}
STAGES = {
    "detected": "redistill looks at it",
    "diagnosing": "redistill looks for the cause",
    "waiting_labels": "redistill waits for labels",
    "repairing": "redistill repairs it",
    "awaiting_person": "a person must act",
    "guarding": "a repaired version serves, and is compared with what it replaced",
}
MAY = {
    "repair": "it may change the model, within the limits of model.toml",
    "rollback": "it may go back to an earlier version",
    "ask_person": "it changes nothing until you act",
    "wait_for_labels": "it changes nothing until labels have come",
    "none": "it changes nothing",
}
NOT_KNOWN = "its effect on accuracy is not known: no label says so yet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """One incident. Each is a sentence without a full stop, or empty; foreign text is on one
    line."""

    what: str
    """Its class."""
    how_bad: str
    """With interval and number of labels, and since when."""
    measured: bool
    """Whether a figure says so."""
    where: str
    """In which slice; empty where that is no question."""
    why: tuple[str, ...]
    """Which part is the mix of rows, what moved, which cause the diagnosis named."""
    doing: str
    """What redistill does, or waits for, and why."""
    may: str
    """What it may do from here on."""
    commands: tuple[str, ...]
    """What a person may type, the next one first; none when it is over."""


def summarised(incident: Row, findings: Sequence[Row]) -> Summary:
    """Put an incident into words.

    Parameters
    ----------
    incident
        A row of ``incidents``.
    findings
        Bodies of its findings (``streams.wire.events.DriftFound`` as JSON objects), the oldest
        first.
    """
    main = sentences.main_finding(findings)
    number = str(incident["incident_id"])[:8]
    resolved = incident["status"] == "resolved"
    told = headline = sentences.headline(main)
    if not told and (reason := _line(str(main.get("reason") or ""), 200).rstrip(".")):
        told = f"{reason}; {NOT_KNOWN}"
    cause = incident["cause"]
    why = [sentences.parts(main), sentences.moved(findings)]
    why.append(f"cause: {_line(str(cause), 80).replace('_', ' ')}" if cause else "")
    return Summary(
        what=CLASSES.get(incident["incident_class"], _line(str(incident["incident_class"]), 40)),
        how_bad=_line(told) or NOT_KNOWN,
        measured=bool(headline),
        where=_line(sentences.where(main)),
        why=tuple(_line(sentence) for sentence in why if sentence),
        doing=_doing(incident),
        may="" if resolved else MAY.get(str(incident["decision"]), ""),
        commands=() if resolved else _commands(incident, number),
    )


def finding_objects(bodies: Sequence[str]) -> list[Row]:
    """Stored findings as JSON objects; one that cannot be put into words is left out."""
    read = []
    for body in bodies:
        try:
            read.append(json.loads(body))
        except ValueError:
            continue
    return readable(read)


def readable(findings: Sequence[Row]) -> list[Row]:
    """Those findings that can be put into words."""
    return [finding for finding in findings if _can_be_told(finding)]


def _can_be_told(finding: Row) -> bool:
    try:
        for tell in (sentences.headline, sentences.where, sentences.parts):
            tell(finding)
        sentences.moved([finding])
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return True


def _doing(incident: Row) -> str:
    why = _line(str(incident["why"]))
    if incident["status"] == "resolved":
        return _line(f"resolved, {incident['resolution']}: {why}")
    attempt = f" (attempt {incident['attempt']})" if incident["attempt"] else ""
    stage = STAGES.get(incident["stage"], str(incident["stage"]))
    return _line(f"{stage}{attempt}: {why}")


def _commands(incident: Row, number: str) -> tuple[str, ...]:
    """What a person can do, by what the incident waits for. Model names need no quoting."""
    shown = f"redistill incidents show {number}"
    taken = f"redistill incidents ack {number}"
    if incident["incident_class"] == "data_bug":
        ended = f'redistill incidents resolve {number} --reason "the feed was mended"'
        return (shown, taken, ended)
    if incident["stage"] == "awaiting_person":
        return (shown, f"redistill incidents approve {number}", taken)
    if incident["stage"] == "guarding":
        return (shown, f"redistill rollback {incident['model']}", taken)
    return (shown, taken)


def _line(text: str, longest: int = LONGEST) -> str:
    return sentences.name(text, longest)
