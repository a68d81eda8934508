"""Sealed states of detectors: each opens with the state key, and says what its row says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from redistill.streams.errors import StateError
from redistill.streams.monitor.outcomes import AccuracyState
from redistill.streams.monitor.seal import fingerprint
from redistill.streams.monitor.state import InputState
from redistill.streams.store import ledger, properties
from redistill.streams.store.state_key import STATE_KEY, any_states
from redistill.streams.store.tables import accuracy_states, input_states, outcomes, windows
from redistill.workers.invariants.rule import Figures, RuleInput, RuleResult

__all__ = ["errors_add_up", "states_say_the_same"]

ENDS = ((min, "first_served_at"), (max, "last_served_at"))
REBUILT = "states_rebuilt"
"""Counter of states that began anew: they know nothing of what was before."""


def states_say_the_same(inputs: RuleInput) -> RuleResult:
    """Part of invariant 1: states of inputs, and the windows that they closed."""
    key, violations = key_of(inputs), list[str]()
    if key is None:
        here = "not here" if inputs.state_key is None else "another one"
        return RuleResult(figures={"seals": f"not checked: the state key is {here}"})
    if properties.get(inputs.conn, STATE_KEY) != fingerprint(key) and any_states(inputs.conn):
        violations.append(
            "states of detectors open with the state key, and another one is noted, or none"
        )
    closed = _windows(inputs.conn)
    opened = lost = 0
    stream = inputs.conn.execution_options(yield_per=50)
    with stream.execute(sa.select(input_states)) as rows:
        for row in rows:
            place = (row.model, row.version, row.topic_id, row.partition)
            name = f"{row.model} {row.version} on {row.topic_id}/{row.partition}"
            windows_of = closed.pop(place, {})
            try:
                state = InputState.from_bytes(
                    bytes(row.state), key, model=row.model, version=row.version,
                    partition=(row.topic_id, row.partition),
                )  # fmt: skip
            except StateError as error:
                lost += 1
                violations += _unopened(inputs, name, error)
                continue
            opened += 1
            counted = state.counted
            said = (counted.rows, counted.first_served_at, counted.last_served_at)
            if said != (row.rows, row.first_served_at, row.last_served_at):
                violations.append(
                    f"{name}: its row says {row.rows:,} rows, the state of its detector says"
                    f" {said[0]:,}, or other times"
                )
            violations += _missing(inputs, name, windows_of, counted.window.number)
            if list(windows_of) == list(range(counted.window.number)):  # else some expired
                if windows_of and not counted.window.rows:
                    ends = [f(getattr(w, n) for w in windows_of.values()) for f, n in ENDS]
                    if ends != [row.first_served_at, row.last_served_at]:
                        violations.append(f"{name}: its windows begin or end at other times")
                in_windows = sum(w.rows for w in windows_of.values()) + counted.window.rows
                if not inputs.counted.of(row.model, REBUILT) and in_windows != row.rows:
                    violations.append(
                        f"{name}: {in_windows:,} rows are in its windows, it has {row.rows:,}"
                    )
    violations += [
        f"{model} {version} on {topic_id}/{partition}: it closed windows and has no state"
        for model, version, topic_id, partition in closed
        if not inputs.counted.of(model, ledger.STATES_EXPIRED)
    ]
    figures: Figures = {"seals": opened}
    if lost:
        figures["seals_of_lost_keys"] = lost
    return RuleResult(figures=figures, violations=violations)


def key_of(inputs: RuleInput) -> bytes | None:
    """The state key, if it is that of this installation: the one that is noted, or under which a
    state opens. Whoever asks on another machine may have another one."""
    key = inputs.state_key
    if key is None or properties.get(inputs.conn, STATE_KEY) == fingerprint(key):
        return key
    for row in inputs.conn.execute(sa.select(input_states)):
        with suppress(StateError):
            InputState.from_bytes(
                bytes(row.state), key, model=row.model, version=row.version,
                partition=(row.topic_id, row.partition),
            )  # fmt: skip
            return key
    return None


def _unopened(inputs: RuleInput, name: str, error: StateError) -> list[str]:
    """A state that does not open was changed, unless its key was given up, as the audit chain then
    says: it is replaced when traffic comes."""
    given_up = any(told.action == "states.new_key" for told in inputs.trail.others)
    return [] if given_up else [f"{name}: {error}"]


def _windows(conn: sa.Connection) -> dict[tuple[Any, ...], dict[int, Any]]:
    out: dict[tuple[Any, ...], dict[int, Any]] = defaultdict(dict)
    query = sa.select(windows).order_by(windows.c.number)
    with conn.execution_options(yield_per=1_000).execute(query) as rows:
        for row in rows:
            out[row.model, row.version, row.topic_id, row.partition][row.number] = row
    return out


def _missing(inputs: RuleInput, name: str, closed: Mapping[int, Any], following: int) -> list[str]:
    """Windows are numbered without a hole up to the open one, but for those that retention took."""
    violations = [
        f"{name}: window {w.number} ends before it begins, or has no row"
        for w in closed.values()
        if w.last_served_at < w.first_served_at or w.rows < 1
    ]
    for number, window in closed.items():
        kept = window.closed_at > inputs.now - inputs.kept(window.model)
        if kept and number + 1 not in closed and number + 1 < following:
            violations.append(f"{name}: window {number + 1} is missing")
        if number >= following:
            violations.append(f"{name}: window {number} was not closed by its detector")
    return violations


def errors_add_up(inputs: RuleInput) -> RuleResult:
    """Part of invariant 9: a detector of harm saw the outcomes that are there, and their errors."""
    key, violations = key_of(inputs), list[str]()
    if key is None:
        return RuleResult()
    o = outcomes.c
    wrong = {
        (model, version): int(n)
        for model, version, n in inputs.conn.execute(
            sa.select(o.model, o.version, sa.func.sum(1 - o.correct)).group_by(o.model, o.version)
        )
    }
    for row in inputs.conn.execute(sa.select(accuracy_states)):
        name = f"{row.model} {row.version}"
        try:
            state = AccuracyState.from_bytes(
                bytes(row.state), key, model=row.model, version=row.version
            )
        except StateError as error:
            violations += _unopened(inputs, name, error)
            continue
        rebuilt = inputs.counted.of(row.model, REBUILT)
        if state.n != row.n and not (rebuilt and state.n < row.n):
            violations.append(
                f"{name}: its row says that its detector saw {row.n:,} outcomes, its state"
                f" {state.n:,}"
            )
        errors = wrong.get((row.model, row.version), 0)
        gone = inputs.counted.of(row.model, ledger.OUTCOMES_EXPIRED)
        if not rebuilt and (errors > state.errors or (not gone and errors != state.errors)):
            violations.append(
                f"{name}: {errors:,} outcomes are wrong, its detector saw {state.errors:,} errors"
            )
    return RuleResult(violations=violations)
