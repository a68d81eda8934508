"""Summary of an incident: each question of somebody on call has its sentence."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from loop import NOW, finding

from redistill.times import SECOND
from redistill.workers.incidents.summary import LONGEST, NOT_KNOWN, finding_objects, summarised

ID = "3f2a81c0-0000-4000-8000-000000000001"


def incident(**over: Any) -> dict[str, Any]:
    return {
        "incident_id": ID, "model": "credit", "version": "v1", "incident_class": "harm", "status": "open",
        "stage": "repairing", "cause": None, "decision": "repair", "why": "compression gap: it lost 12 points",
        "attempt": 1, "change_low": NOW - 60 * SECOND, "change_high": NOW, "opened_at": NOW,
        "resolution": None,
    } | over  # fmt: skip


def body(**over: Any) -> dict[str, Any]:
    return dict(json.loads(msgspec.json.encode(finding(**over))))


def test_each_question_has_its_sentence() -> None:
    told = summarised(incident(cause="compression_gap"), [body(contributors=("x",))])
    assert told.what == "harm"
    assert told.how_bad.startswith("error 5.0% → 60.0% [")
    assert " labels, since 20" in told.how_bad
    assert told.where == "everywhere, or not localised yet"
    assert told.why[0].startswith("moved: x (")
    assert told.why[-1] == "cause: compression gap"
    assert told.doing == "redistill repairs it (attempt 1): compression gap: it lost 12 points"
    assert told.may == "it may change the model, within the limits of model.toml"
    assert told.commands[0] == "redistill incidents show 3f2a81c0"


@pytest.mark.parametrize(
    ("over", "command"),
    [
        ({"stage": "awaiting_person"}, "redistill incidents approve 3f2a81c0"),
        ({"stage": "guarding"}, "redistill rollback credit"),
        (
            {"incident_class": "data_bug"},
            'redistill incidents resolve 3f2a81c0 --reason "the feed was mended"',
        ),
    ],
)
def test_commands_are_those_that_help_now(over: dict[str, Any], command: str) -> None:
    assert command in summarised(incident(**over), []).commands


def test_what_is_over_needs_no_command() -> None:
    over = incident(
        status="resolved", stage="resolved", resolution="recovered", why="error is back"
    )
    told = summarised(over, [body()])
    assert (told.commands, told.may, told.doing) == ((), "", "resolved, recovered: error is back")


def test_without_a_figure_the_finding_s_own_words_are_told() -> None:
    shifted = body(kind="input", harmful=None)
    shifted["impact"] |= {"metric": "rows", "current": None}
    assert summarised(incident(), [shifted]).how_bad == f"{shifted['reason']}; {NOT_KNOWN}"
    assert summarised(incident(), []).how_bad == NOT_KNOWN


def test_text_that_somebody_else_chose_is_one_line() -> None:
    evil = "a\x00\x1b[2J\r\nb\u202e" * 400
    found = body() | {"reason": evil}
    told = summarised(incident(why=evil, stage=evil, cause=evil, incident_class=evil), [found])
    for text in (told.what, told.how_bad, told.where, *told.why, told.doing):
        assert text.isprintable()
        assert len(text) <= LONGEST


def test_findings_that_cannot_be_put_into_words_are_left_out() -> None:
    good = json.dumps(body())
    bad = ("{", "[1]", "3", '{"impact": [3]}', '{"contributors": [{}]}')
    assert finding_objects([*bad, good]) == [json.loads(good)]
