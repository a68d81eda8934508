"""Section ``[gates]`` of a model.toml: one table a gate, as the gates themselves declare it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from redistill.compress.judge import limits, policy
from redistill.compress.judge.gates.table import RULES
from redistill.workers.models.spec_schema import unknown_key

__all__ = ["ELSEWHERE", "old_keys", "read_gates"]

ELSEWHERE = {("size", "max_bytes"), ("latency", "max_p95_ms")}
"""Limits that are written in ``[repair]``."""

_KINDS = {rule.name: type(rule.limit) for rule in RULES}
_OLD = [k for k, place in policy.OLD_KEYS.items() if place[:2] not in ELSEWHERE]


def read_gates(table: Any, problems: list[str]) -> dict[str, dict[str, Any]]:
    """What ``[gates]`` sets, by gate; what is wrong with it joins ``problems``.

    Keys of older releases, which had no section for each gate, are read as what they became.

    Examples
    --------
    >>> problems = []
    >>> read_gates({"trusted": {"margin_points": 3}, "min_agreement": 0.9}, problems), problems
    ({'trusted': {'margin_points': 3.0}, 'agreement': {'least': 0.9}}, [])
    >>> _ = read_gates({"trustd": {}, "f1": {"max_loss_points": "x"}}, problems)
    >>> problems[0]
    '[gates] trustd: there is no such key; did you mean trusted?'
    >>> problems[1]
    "[gates.f1] max_loss_points = 'x': a number from 0 to 100 was expected"
    """
    if table is None:
        return {}
    if not isinstance(table, Mapping):
        problems.append(f"gates = {table!r}: sections [gates.NAME] were expected")
        return {}
    sections: dict[str, dict[str, Any]] = {}
    for key, value in table.items():
        if key in _KINDS and isinstance(value, Mapping):
            fields = [f.name for f in dataclasses.fields(_KINDS[key])]
            known = [f for f in fields if (key, f) not in ELSEWHERE]
            place = f"[gates.{key}] "
            problems.extend(_unknown(place, k, known) for k in value if k not in known)
            sections[key] = {k: v for k, v in value.items() if k in known}
            problems.extend(place + told for told in _wrong(key, sections[key]))
        elif key in _KINDS:
            problems.append(f"[gates] {key} = {value!r}: a section [gates.{key}] was expected")
        elif key not in _OLD:
            problems.append(_unknown("[gates] ", key, [*_KINDS, *_OLD]))
    flat = {k: v for k, v in table.items() if k in _OLD}
    for old, value in flat.items():
        for gate, limit in policy.became(old):
            if limit in sections.get(gate, {}):
                problems.append(f"[gates] {old} is also set as [gates.{gate}] {limit}: keep one")
        gate, limit = policy.became(old)[0]
        told = dict(limits.wrong(_KINDS[gate], {limit: value}))
        problems.extend(f"[gates] {old} = {text}" for text in told.values())
    return {
        gate: _converted(_KINDS[gate], values)
        for gate, values in policy.migrated(sections | flat).items()
        if values and not [*_wrong(gate, values)]
    }


def _unknown(place: str, key: str, known: list[str]) -> str:
    if any(key == limit for _, limit in ELSEWHERE):
        return f"{place}{key}: it is written as [repair] {key}"
    return unknown_key(place, key, known)


def _converted(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """As the gate gets them: 3 and 3.0 are the same points, and the same hash."""
    read = msgspec.convert(values, kind)
    return {name: getattr(read, name) for name in values}


def _wrong(gate: str, values: Mapping[str, Any]) -> Iterator[str]:
    return (f"{name} = {told}" for name, told in limits.wrong(_KINDS[gate], values))


def old_keys(table: Any) -> tuple[str, ...]:
    """A sentence where ``[gates]`` has keys of older releases.

    Examples
    --------
    >>> old_keys({"min_agreement": 0.9})
    ('[gates] min_agreement is read as [gates.agreement] least: write it so',)
    """
    flat = [k for k in _OLD if isinstance(table, Mapping) and k in table and k != "trade"]
    return tuple(
        f"[gates] {old} is read as "
        + " and ".join(f"[gates.{gate}] {limit}" for gate, limit in policy.became(old))
        + ": write it so"
        for old in flat
    )
