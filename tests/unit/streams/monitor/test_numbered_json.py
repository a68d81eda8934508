"""JSON with a format number: a newer one is told from a broken one."""

from __future__ import annotations

import pytest

from redistill.streams.errors import StateError
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.numbered_json import from_json

NEWER = '{"format": 2, "base": {"renamed": 1}, "expected": {"renamed": 1}}'


@pytest.mark.parametrize("kind", [BaseError, ExpectedError])
def test_newer_format_with_other_fields_asks_for_an_upgrade(
    kind: type[BaseError] | type[ExpectedError],
) -> None:
    with pytest.raises(StateError, match="have format 2, this program knows 1: upgrade redistill"):
        kind.from_json(NEWER)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "cannot be read: Input data was truncated"),
        ("[]", "cannot be read: Expected `object`"),
        ("{}", "cannot be read: 'format' is missing"),
        ('{"format": 1}', "cannot be read: 'rows' is missing"),
        ('{"format": "1", "rows": []}', "cannot be read: Expected `int`"),
        ('{"format": 1, "rows": [null]}', "cannot be read: Expected `int`, got `null`"),
        (b'{"format": 1, "rows": ["\xff"]}', "cannot be read"),
    ],
)
def test_what_is_no_such_value_is_named(data: str | bytes, why: str) -> None:
    with pytest.raises(StateError, match=f"stored row numbers {why}"):
        from_json(data, list[int], name="rows", number=1, what="row numbers")
