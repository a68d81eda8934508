"""Every kind of operational alert has its line in the document, and its tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from redistill.workers.alerts.alert import CHANNEL_FAILING
from redistill.workers.alerts.operational.table import CHECKS, SEVERITY_OF

ROOT = Path(__file__).resolve().parents[5]


def documented() -> dict[str, str]:
    """Kind -> severity, as docs/alerts.md has them."""
    text = (ROOT / "docs" / "alerts.md").read_text().partition("\n## Operational alerts\n")[2]
    section = text.partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE))


def test_document_has_a_line_for_each_kind_with_its_severity() -> None:
    assert documented() == SEVERITY_OF
    assert SEVERITY_OF.keys() - CHECKS.keys() == {CHANNEL_FAILING}


@pytest.mark.parametrize("kind", CHECKS)
def test_check_has_its_tests(kind: str) -> None:
    check = CHECKS[kind].check
    module = check.__module__.rpartition(".")[2]
    tests = Path(__file__).parent / "checks" / f"test_{module}.py"
    assert f"{check.__name__}" in tests.read_text(), f"{tests} does not try {check.__name__}"
    assert f".firing({module}.{check.__name__}" in tests.read_text(), "its hysteresis is not tried"
