"""Schema section of ``model.toml``: its shorthand for features, and ranges such as ``p[0-63]``."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from redistill.streams.wire.block import Feature, Schema

__all__ = ["MAX_VALUES", "SCHEMA_KEYS", "expand", "read_schema", "unknown_key"]

SCHEMA_KEYS = ("features", "order", "classes", "slices")
FEATURE_KEYS = ("type", "min", "max", "values")
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
    if len(problems) > before:
        return None
    return Schema(features=tuple(features.values()), classes=classes, slices=slices)


def _features(value: Any, problems: list[str]) -> dict[str, Feature]:
    place = "[schema] features"
    if not isinstance(value, Mapping) or not value:
        problems.append(
            f'{place}: a table such as {{ age = "int", region = ["EU", "US"] }} was expected'
        )
        return {}
    out: dict[str, Feature] = {}
    for key, described in value.items():
        names = expand(key)
        if names is None or len(out) + len(names) > MAX_FEATURES:
            problems.append(f"{place}.{key}: a range such as p[0-63] was expected")
            continue
        problems.extend(f"{place}.{key}: {name} is declared twice" for name in names if name in out)
        template = _feature(described, f"{place}.{key}", problems)
        if template is not None:
            out |= {name: dataclasses.replace(template, name=name) for name in names}
    return out


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
    listed = [n for name in names for n in (expand(name) or [name])]
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
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        problems.append(f"{place}: {twice!r} stands there twice")
    return names
