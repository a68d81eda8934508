"""Forms in which the answer of ``redistill gate`` is told: text, JSON, JUnit, Markdown. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from xml.etree import ElementTree as ET

from redistill.workers.cli.common import one_line, paragraph
from redistill.workers.cli.judged import WORDS, measured_lines, number
from redistill.workers.documents.gate import GateDocument

__all__ = ["ENDINGS", "FORMATS"]

SAID = {
    "passed": "PASSED: the candidate may take the place of the baseline",
    "refused": "REFUSED: a gate failed",
    "undecided": "UNDECIDED: the rows are too few to say yes or no",
}


MARKUP = {ord(sign): f"&#{ord(sign)};" for sign in "&\\|`*_[]<>#!~@"}
"""Signs of Markdown and HTML, as what they are."""


def _text(found: GateDocument) -> str:
    width = 80
    lines = [one_line(SAID[found.answer])]
    for gate in found.gates:
        told = f"{WORDS[gate['passed']]:<9} {gate['name']}: {gate['why']}"
        if gate["passed"] is None and gate.get("need"):
            told += f"; {gate['need']:,} rows would decide it"
        lines.append(paragraph(one_line(told), width=width))
    for role in ("candidate", "baseline"):
        told = "; ".join(measured_lines(getattr(found, role)))
        lines.append(paragraph(one_line(f"{role}: {told}"), width=width, indent=0))
    lines += [paragraph(one_line(f"note: {n}"), width=width, indent=0) for n in found.notes]
    lines.append(paragraph(found.repeated_looks, width=width, indent=0))
    return "\n".join(lines) + "\n"


def _json(found: GateDocument) -> str:
    return json.dumps(asdict(found), indent=2) + "\n"


def _junit(found: GateDocument) -> str:
    """A suite with a case per gate: a failed one is a failure, an undecided one an error."""
    count = {w: sum(g["passed"] is w for g in found.gates) for w in (False, None)}
    suite = ET.Element(
        "testsuite",
        name="redistill gate",
        tests=str(len(found.gates)),
        failures=str(count[False]),
        errors=str(count[None]),
        skipped="0",
    )
    told = {f"sha256.{role}": digest for role, digest in found.sha256.items()}
    told |= {"policy_sha256": found.policy_sha256, "answer": found.answer}
    properties = ET.SubElement(suite, "properties")
    for name, value in told.items():
        ET.SubElement(properties, "property", name=name, value=value)
    for gate in found.gates:
        case = ET.SubElement(
            suite, "testcase", classname="redistill.gate", name=one_line(gate["name"])
        )
        if gate["passed"] is not True:
            failed = gate["passed"] is False
            ET.SubElement(
                case,
                "failure" if failed else "error",
                type="refused" if failed else "undecided",
                message=one_line(gate["why"]),
            )
    ET.SubElement(suite, "system-out").text = "\n".join(
        map(one_line, (*found.notes, found.repeated_looks))
    )
    suites = ET.Element("testsuites", dict(suite.attrib))
    suites.append(suite)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _markdown(found: GateDocument) -> str:
    marks = {True: "passed", False: "**failed**", None: "*undecided*"}
    lines = [f"### redistill gate: {SAID[found.answer]}", ""]
    lines += ["| gate | | value | limit | why |", "|---|---|---|---|---|"]
    lines += [
        f"| {_cell(g['name'])} | {marks[g['passed']]} | {number(g['value'])}"
        f" | {number(g['limit'])} | {_cell(g['why'])} |"
        for g in found.gates
    ]
    lines.append("")
    lines += [
        f"- {role}: {_cell('; '.join(measured_lines(getattr(found, role))))}"
        for role in ("candidate", "baseline")
    ]
    lines += [f"- note: {_cell(note)}" for note in found.notes]
    lines += ["", f"*{found.repeated_looks}*", ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A text of somebody else in a cell: it ends no cell, and is neither markup nor a link."""
    return one_line(text).translate(MARKUP)


FORMATS: Mapping[str, Callable[[GateDocument], str]] = {
    "text": _text,
    "json": _json,
    "junit": _junit,
    "markdown": _markdown,
}
"""By the name of ``--format``."""
ENDINGS: Mapping[str, str] = {".txt": "text", ".json": "json", ".xml": "junit", ".md": "markdown"}
"""Of the files of ``--report``."""
