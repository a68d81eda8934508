"""What a batch counted is told as metrics, and what is at fault as one warning a model."""

from __future__ import annotations

import pytest

from redistill.streams.engine.counted import by_name, warn

COUNTS = {
    ("a", "invalid_served_at"): 2,
    ("a", "invalid_segment"): 1,
    ("b", "invalid_segment"): 4,
    ("b", "rows_duplicate"): 9,
    ("c", "labels_null_word"): 1,
}


def test_metrics_have_names_and_no_models() -> None:
    assert by_name(COUNTS) == {
        "invalid_served_at": 2,
        "invalid_segment": 5,
        "rows_duplicate": 9,
        "labels_null_word": 1,
    }


def test_faults_are_warned_of_once_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    warn(COUNTS)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "invalid_served_at=2" in lines[0]
    assert not any("rows_duplicate" in line for line in lines)
