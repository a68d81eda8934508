"""Rows that were served at a time that cannot be are left out, and said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from stream_rows import CONFIG, START, batch_record, prediction, record

from redistill.streams.engine.serving_times import leave_out_of_time, times_of
from redistill.streams.wire.codec import Decoded, Record, decode_predictions
from redistill.times import DAY, microseconds

LOW, HIGH = microseconds(START), microseconds(START + timedelta(seconds=1))


def decoded(*records: Record, known: bool = True) -> Decoded:
    out = decode_predictions(records, lambda _: CONFIG.schema)
    leave_out_of_time(out, lambda _: (LOW, HIGH) if known else None)
    return out


def served(i: int, at: datetime) -> Record:
    value = record(prediction(i), i).value or b""
    was = prediction(i).served_at.isoformat().replace("+00:00", "Z").encode()
    assert was in value
    return record(prediction(i), i)._replace(value=value.replace(was, at.isoformat().encode()))


@pytest.mark.parametrize(
    "at", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)], ids=["1", "9999"]
)
def test_record_of_one_such_row_is_a_dead_letter(at: datetime) -> None:
    out = decoded(record(prediction(0), 0), served(1, at), record(prediction(2), 2))
    assert [(i, why.code) for i, why in out.dead] == [(1, "invalid_field")]
    reason = out.dead[0][1].reason
    assert reason.startswith(f"served_at {at.isoformat()[:4]}-")
    assert "is outside 2026-03-01 to 2026-03-01" in reason
    assert [list(b.ids) for b in out.blocks] == [["row-0", "row-2"]]
    assert out.record_of[0].tolist() == [0, 2]
    assert out.blocks[0].invalid == {}


def test_record_that_is_only_over_is_counted_and_no_dead_letter() -> None:
    """A backlog older than the retention: nothing is wrong with it."""
    out = decode_predictions(
        [record(prediction(0), 0), batch_record([1, 2], 1)], lambda _: CONFIG.schema
    )
    later = microseconds(prediction(0).served_at) + 400 * DAY
    over = leave_out_of_time(out, lambda _: (later - 31 * DAY, later + DAY))
    assert (over, out.blocks, out.dead) == ({"credit": 3}, [], [])


def test_such_a_row_in_a_batch_is_left_out_and_counted() -> None:
    out = decoded(
        batch_record([0, 500, 1], 0), batch_record([600, 700], 1), record(prediction(2), 2)
    )
    assert [i for i, _ in out.dead] == [1]
    assert [i for b in out.blocks for i in b.ids] == ["row-0", "row-1", "row-2"]
    assert [b.invalid for b in out.blocks] == [{"served_at": 1}, {}]
    block = out.blocks[0]
    whole = decode_predictions([batch_record([0, 1], 0)], lambda _: CONFIG.schema).blocks[0]
    np.testing.assert_array_equal(block.features, whole.features)
    np.testing.assert_array_equal(block.scores, whole.scores)
    assert block.prediction.strings() == whole.prediction.strings()  # type: ignore[union-attr]


def test_both_ends_count_and_strangers_have_no_bounds() -> None:
    assert [len(b) for b in decoded(batch_record([0, 100], 0)).blocks] == [2]
    far = decoded(batch_record([0, 5_000], 0), known=False)
    assert ([len(b) for b in far.blocks], far.dead) == ([2], [])


def test_rows_may_be_as_old_as_what_is_kept_and_a_day() -> None:
    assert times_of(CONFIG, 0) == (-36_501 * DAY, DAY)
