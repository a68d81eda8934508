"""Forms of the answer of `redistill gate`: what others wrote in it steers no reader of it."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from redistill.workers.cli.gate_formats import ENDINGS, FORMATS
from redistill.workers.documents.gate import GateDocument

EVIL = 'class=<script>|x|\x1b[2J\x00 ]]> & "q" [a](http://b) **c** `d`\n# e'


def document(**fields: Any) -> GateDocument:
    gate = {"name": "f1", "value": 1.5, "limit": None, "why": "fine", "have": 9, "need": None}
    given: dict[str, Any] = {
        "answer": "undecided",
        "why": "few",
        "gates": [
            gate | {"passed": True},
            gate | {"name": "trusted", "passed": None, "need": 1_200},
            gate | {"name": EVIL, "passed": False, "why": EVIL},
        ],
        "candidate": {"bytes": 10, "p50_ms": 0.1},
        "baseline": {"bytes": 20, "p50_ms": 0.2},
        "rows": {"trusted": 9},
        "sha256": {"candidate": "a" * 64},
        "policy_sha256": "b" * 64,
        "notes": [EVIL],
        "repeated_looks": "looks",
    }
    return GateDocument(**given | fields)


def test_each_ending_is_a_form() -> None:
    assert set(ENDINGS.values()) == set(FORMATS)


@pytest.mark.parametrize("form", FORMATS)
def test_control_characters_are_written_as_escapes(form: str) -> None:
    said = FORMATS[form](document())
    assert not {"\x1b", "\x00"} & set(said)
    assert said.endswith("\n")


def test_json_is_the_document() -> None:
    assert json.loads(FORMATS["json"](document()))["notes"] == [EVIL]


def test_junit_counts_failures_and_what_is_undecided() -> None:
    suites = ET.fromstring(FORMATS["junit"](document()))
    assert (suites.tag, suites.get("tests")) == ("testsuites", "3")
    (suite,) = suites
    assert [suite.get(k) for k in ("tests", "failures", "errors", "skipped")] == [
        "3",
        "1",
        "1",
        "0",
    ]
    kinds = [[child.tag for child in case] for case in suite.iter("testcase")]
    assert kinds == [[], ["error"], ["failure"]]


def test_markdown_has_no_markup_of_others() -> None:
    said = FORMATS["markdown"](document())
    assert "<script>" not in said
    assert "](http" not in said
    (row,) = (line for line in said.splitlines() if line.startswith("| class"))
    assert row.count("|") == 6


def test_text_says_how_many_rows_would_decide() -> None:
    said = FORMATS["text"](document())
    assert "1,200 rows would decide it" in said
    assert max(map(len, said.splitlines())) <= 80
