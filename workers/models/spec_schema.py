"""Schema section of ``model.toml``: its shorthand for features, and ranges such as ``p[0-63]``.

A key is shorthand; ``name`` inside a feature's table is the column's name letter for letter,
whatever it looks like.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from redistill.streams.wire.block import Feature, Schema
from redistill.streams.wire.events import TEXT_CHARACTERS

__all__ = ["MAX_VALUES", "SCHEMA_KEYS", "expand", "members", "read_schema", "unknown_key"]

SCHEMA_KEYS = ("features", "order", "classes", "slices", "groups", "no_slices")
FEATURE_KEYS = ("name", "type", "min", "max", "values")
KINDS = ("float", "int", "category")
RANGE = re.compile(r"^(?P<head>.*)\[(?P<low>\d+)-(?P<high>\d+)\](?P<tail>[^\[\]]*)$")
MAX_FEATURES = 4_096
MAX_VALUES = 1_000
"""Distinct values of one category: beyond this it is an id, not a category."""


def unknown_key(place: str, key: str, known: Iterable[str]) -> str:
    """One sentence about a key that there is not, with the nearest one that there is."""
    names = list(known)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
    if not names:
        hint = "nothing can be set there"
    return f"{place}{key}: there is no such key; {hint}"


def read_schema(table: Any, problems: list[str]) -> Schema | None:
    """Read ``[schema]``; what is wrong goes to ``problems``, and then there is no schema."""
    if not isinstance(table, Mapping):
        problems.append(
            "[schema] is missing: name the features and the classes, or use"
            " `redistill register NAME --from-traffic` to learn them"
        )
        return None
    before = len(problems)
    problems.extend(unknown_key("[schema] ", k, SCHEMA_KEYS) for k in table if k not in SCHEMA_KEYS)
    features = _features(table.get("features"), problems)
    order = table.get("order")
    if order is not None:
        features = _ordered(features, order, problems)
    classes = _names(table.get("classes"), "[schema] classes", problems, required=True)
    if len(classes) == 1:
        problems.append(f"[schema] classes = {list(classes)!r}: at least two were expected")
    slices = _names(table.get("slices"), "[schema] slices", problems)
    groups = _names(table.get("groups"), "[schema] groups", problems)
    no_slices = _names(table.get("no_slices"), "[schema] no_slices", problems)
    for name in no_slices:
        if name in slices or name in groups:
            problems.append(f"[schema] no_slices: {name!r} is declared under slices or groups")
        elif name not in features:
            problems.append(f"[schema] no_slices: {name!r} is no feature")
    if len(problems) > before:
        return None
    return Schema(
        features=tuple(features.values()),
        classes=classes,
        slices=slices,
        groups=groups,
        no_slices=no_slices,
    )


def _features(value: Any, problems: list[str]) -> dict[str, Feature]:
    place = "[schema] features"
    items: list[tuple[str, str | None, Any]]
    """Place, key (``None``: an entry of a list), description."""
    if isinstance(value, Mapping) and value:
        items = [(f"{place}.{key}", key, described) for key, described in value.items()]
    elif isinstance(value, list) and value:
        items = [(f"{place}[{i}]", None, described) for i, described in enumerate(value)]
    else:
        problems.append(
            f'{place}: a table such as {{ age = "int", region = ["EU", "US"] }} was expected'
        )
        return {}
    out: dict[str, Feature] = {}
    for where, key, described in items:
        names = _column_names(where, key, described, problems)
        if nul := next((n for n in names if "\0" in n), None):
            problems.append(f"{where}: {nul!r} holds NUL, which no database stores")
        if len(out) + len(names) > MAX_FEATURES:
            problems.append(f"{where}: more than {MAX_FEATURES:,} features")
            break
        problems.extend(f"{where}: {name} is declared twice" for name in names if name in out)
        template = _feature(described, where, problems) if names else None
        if template is not None:
            out |= {name: dataclasses.replace(template, name=name) for name in names}
    return out


def _column_names(
    where: str, key: str | None, described: Any, problems: list[str]
) -> Sequence[str]:
    """Columns that an entry declares; none: what is wrong was said."""
    if isinstance(described, Mapping) and "name" in described:
        if isinstance(name := described["name"], str):
            return (name,)
        problems.append(f"{where} name = {name!r}: a text was expected")
        return ()
    if key is None:
        problems.append(f'{where}: {{ name = "age", type = "float" }} was expected')
        return ()
    if (names := expand(key)) is not None:
        return names
    problems.append(
        f"{where}: a range such as p[0-63] was expected; a column of just this name is declared by"
        f" {{ name = {json.dumps(key, ensure_ascii=False)}, type = ... }}"
    )
    return ()


def members(name: str, known: Container[str]) -> list[str]:
    """Features that an entry of a list means: the one of this very name, else those of a range.

    Examples
    --------
    >>> members("p[0-1]", {"p0", "p1"}), members("p[0-1]", {"p[0-1]", "p0"})
    (['p0', 'p1'], ['p[0-1]'])
    """
    return [name] if name in known else expand(name) or [name]


def expand(name: str) -> list[str] | None:
    """Names that a range stands for; ``None`` if it cannot be read.

    Examples
    --------
    >>> expand("p[0-2]"), expand("age"), expand("p[3-1]")
    (['p0', 'p1', 'p2'], ['age'], None)
    """
    match = RANGE.match(name)
    if match is None:
        return None if "[" in name or "]" in name or not name.strip() else [name]
    low, high = int(match["low"]), int(match["high"])
    if low > high or high - low >= MAX_FEATURES:
        return None
    return [f"{match['head']}{i}{match['tail']}" for i in range(low, high + 1)]


def _feature(value: Any, place: str, problems: list[str]) -> Feature | None:
    before = len(problems)
    table: Mapping[str, Any]
    if isinstance(value, str):
        table = {"type": value}
    elif isinstance(value, list):
        table = {"type": "category", "values": value}
    elif isinstance(value, Mapping):
        table = value
    else:
        problems.append(
            f'{place} = {value!r}: "float", "int", a list of values, or a table was expected'
        )
        return None
    problems.extend(
        unknown_key(f"{place}.", k, FEATURE_KEYS) for k in table if k not in FEATURE_KEYS
    )
    kind = table.get("type", "category" if "values" in table else None)
    if kind not in KINDS:
        problems.append(f'{place} type = {kind!r}: "float", "int" or a list of values was expected')
        return None
    limits = [table.get("min"), table.get("max")]
    for key, limit in zip(("min", "max"), limits, strict=True):
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float))):
            problems.append(f"{place} {key} = {limit!r}: a number was expected")
        elif limit is not None and kind == "category":
            problems.append(f"{place} {key}: a category has no {key}")
    values: tuple[str, ...] = ()
    if kind == "category":
        values = _names(table.get("values"), f"{place} values", problems, required=True)
        if len(values) > MAX_VALUES:
            problems.append(
                f"{place}: {len(values)} values; more than {MAX_VALUES} are no category"
            )
    elif "values" in table:
        problems.append(f"{place} values: only a category has values")
    if len(problems) > before:
        return None
    low, high = limits
    if low is not None and high is not None and low >= high:
        problems.append(f"{place}: min = {low} is not below max = {high}")
        return None
    return Feature(name="", kind=kind, minimum=low, maximum=high, values=values)


def _ordered(features: dict[str, Feature], order: Any, problems: list[str]) -> dict[str, Feature]:
    names = _names(order, "[schema] order", problems)
    listed = [n for name in names for n in members(name, features)]
    if sorted(listed) != sorted(features):
        missing = sorted(set(features) - set(listed))
        extra = sorted(set(listed) - set(features))
        why = [f"{', '.join(missing[:5])} not in it"] if missing else []
        why += [f"{', '.join(extra[:5])} not among the features"] if extra else []
        problems.append(f"[schema] order: {'; '.join(why) or 'a name stands there twice'}")
        return features
    return {name: features[name] for name in listed}


def _names(
    value: Any, place: str, problems: list[str], *, required: bool = False
) -> tuple[str, ...]:
    if value is None:
        if required:
            problems.append(f"{place} is missing: a list of names was expected")
        return ()
    if not isinstance(value, list) or (required and not value):
        problems.append(f"{place} = {value!r}: a list of names was expected")
        return ()
    if wrong := [v for v in value if not isinstance(v, (str, int)) or isinstance(v, bool)]:
        problems.append(f"{place}: {wrong[0]!r} is no name (put it in quotes)")
        return ()
    names = tuple(str(v) for v in value)
    if nul := next((n for n in names if "\0" in n), None):
        problems.append(f"{place}: {nul!r} holds NUL, which no database stores")
    if long := next((n for n in names if len(n) > TEXT_CHARACTERS), None):
        problems.append(f"{place}: {long[:40]!r}... has more than {TEXT_CHARACTERS} characters")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        problems.append(f"{place}: {twice!r} stands there twice")
    return names
