"""What is said once a minute."""

from __future__ import annotations

from redistill.quiet import MAX_CAUSES, Quiet


def test_cause_is_said_once_a_minute_with_how_often_it_was_not() -> None:
    now = 0.0
    quiet = Quiet(clock=lambda: now)
    assert [quiet.ask("a"), quiet.ask("a"), quiet.ask("b"), quiet.ask("a")] == [0, None, 0, None]
    now = 59.9
    assert quiet.ask("a") is None
    now = 60.0
    assert (quiet.ask("a"), quiet.ask("a"), quiet.ask("b")) == (3, None, 0)


def test_number_of_causes_is_bounded() -> None:
    quiet = Quiet(clock=lambda: 0.0)
    assert {quiet.ask(str(i)) for i in range(5 * MAX_CAUSES)} == {0}
    assert len(quiet._said) <= MAX_CAUSES
