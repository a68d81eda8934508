"""Records read one by one: what one of them raises touches no other."""

from __future__ import annotations

import pytest

from redistill.streams.errors import StoreUnavailable, StoreUnusable, WireError
from redistill.streams.wire.reading import read_each


def test_record_that_raises_is_set_aside_with_its_reason_and_the_others_are_read() -> None:
    wrong = WireError("malformed", "no JSON")
    raised = {2: wrong, 3: KeyError("x"), 5: AttributeError("y"), 6: RecursionError()}

    def read(n: int) -> str:
        if n in raised:
            raise raised[n]
        return str(n)

    made, unreadable = read_each(range(8), read)
    assert made == ["0", "1", "4", "7"]
    assert [(n, why.code) for n, why in unreadable] == [
        (2, "malformed"), (3, "failed"), (5, "failed"), (6, "failed"),
    ]  # fmt: skip
    first, second = (why for _, why in unreadable[:2])
    assert (first.reason, first.kind) == ("no JSON", "malformed")
    assert second.kind.startswith("KeyError at test_reading.py:")
    assert {why.__traceback__ for _, why in unreadable} == {None}, "tracebacks hold the records"


@pytest.mark.parametrize(
    "error", [MemoryError(), StoreUnavailable("away"), StoreUnusable("too old")]
)
def test_what_is_no_fault_of_the_record_is_passed_on(error: Exception) -> None:
    def read(_: int) -> None:
        raise error

    with pytest.raises(type(error)):
        read_each([1], read)
