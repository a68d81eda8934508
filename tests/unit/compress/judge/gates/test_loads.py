from __future__ import annotations

from gate_evidence import evidence

from redistill.compress.judge.gates import loads


def test_loads_says_why_the_child_refused() -> None:
    assert loads.judge(evidence(), loads.Limit()).passed is True
    refused = loads.judge(evidence(load_error="corrupt"), loads.Limit())
    assert (refused.passed, refused.why) == (False, "corrupt")
