"""Reader of ``model.toml``: all that is wrong with it is found at once, each with its place.

Order of the checks: unknown keys (with the nearest known one), the schema's shorthand, types and
ranges, what the level needs, files that are not there.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from redistill import tomlfile
from redistill.compress.judge.task import wrong_costs
from redistill.compress.plan import CardText, Training
from redistill.streams.wire.block import Schema
from redistill.workers.errors import SpecError
from redistill.workers.models import cron, spec
from redistill.workers.models.spec import PATHS, ModelSpec
from redistill.workers.models.spec_gates import old_keys, read_gates
from redistill.workers.models.spec_schema import members, read_schema, unknown_key

__all__ = ["SECTIONS", "TOP_KEYS", "outdated", "parse", "partly", "read"]

SECTIONS: dict[str, type[Any]] = {
    "model": spec.ModelSection,
    "teacher": spec.TeacherSection,
    "data": spec.DataSection,
    "labels": spec.LabelsSection,
    "watch": spec.WatchSection,
    "serving": spec.ServingSection,
    "repair": spec.RepairSection,
    "training": Training,
    "privacy": spec.PrivacySection,
    "card": CardText,
}
TOP_KEYS = ("format", "name", "task", "level")
LATER_TASKS = ("regression", "embedding")
UNITS = {
    "days": "days",
    "hours": "hours",
    "minutes": "minutes",
    "points": "percentage points",
    "bytes": "bytes",
    "ms": "milliseconds",
    "rows": "rows",
    "day": "jobs",
    "second": "rows",
}
LONGEST_TEXT = 2_000
"""Characters of a text of a model card."""
_ADAPTER: TypeAdapter[ModelSpec] = TypeAdapter(ModelSpec)


def read(path: Path) -> ModelSpec:
    """Read ``model.toml``, or the one in the folder ``path``.

    Raises
    ------
    SpecError
        Naming everything that is wrong.
    """
    path, text = _text(path)
    return parse(text, path)


def outdated(path: Path) -> tuple[str, ...]:
    """A sentence for each key of an older release in a ``model.toml`` that ``read`` took."""
    path, text = _text(path)
    return old_keys(tomlfile.parse(text, path).get("gates"))


def _text(path: Path) -> tuple[Path, str]:
    if path.is_dir():
        path = path / "model.toml"
    try:
        return path, tomlfile.read(path)
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file") from None
    except tomlfile.TomlError as error:
        raise SpecError(str(error)) from error


def parse(text: str, path: Path) -> ModelSpec:
    """Parse the text of a ``model.toml`` that lies at ``path``.

    Raises
    ------
    SpecError
        Naming everything that is wrong.
    """
    try:
        document = tomlfile.parse(text, path)
    except tomlfile.TomlError as error:
        raise SpecError(str(error)) from error
    problems: list[str] = []
    _unknown_keys(document, problems)
    schema = read_schema(document.get("schema"), problems)
    parsed = _typed(document, schema, problems)
    _rules(document, schema, problems)
    parsed_paths = _paths(document, path.parent, problems)
    if problems or parsed is None:
        listed = "".join(f"\n  {p}" for p in problems)
        raise SpecError(f"{path} cannot be used:{listed}")
    return _with_paths(parsed, parsed_paths)


def partly(
    document: Mapping[str, Any],
) -> tuple[ModelSpec | None, Schema | None, list[str]]:
    """Read a document that need not be whole: what it has must be right, no file is looked for.

    Returns
    -------
    tuple
        The specification (named ``model`` and without features where it does not say them; ``None``
        where something is wrong), the schema that it declares, and all that is wrong, a sentence
        each.
    """
    problems: list[str] = []
    _unknown_keys(document, problems)
    declared = document.get("schema")
    schema = None if declared is None else read_schema(declared, problems)
    parsed = _typed(
        {"name": "model", **document}, schema or Schema(features=(), classes=()), problems
    )
    model = document.get("model")
    costs = model.get("costs") if isinstance(model, Mapping) else None
    if costs is not None:
        problems.extend(
            f"[model] {told}"
            for told in wrong_costs(costs, None if schema is None else len(schema.classes))
        )
    return (None if problems else parsed), schema, problems


def _unknown_keys(document: Mapping[str, Any], problems: list[str]) -> None:
    top = (*TOP_KEYS, *SECTIONS, "gates", "schema")
    problems.extend(unknown_key("", key, top) for key in document if key not in top)
    for name, section in SECTIONS.items():
        table = document.get(name)
        if isinstance(table, Mapping):
            known = [f.name for f in dataclasses.fields(section)]
            problems.extend(unknown_key(f"[{name}] ", k, known) for k in table if k not in known)


def _typed(
    document: Mapping[str, Any], schema: Schema | None, problems: list[str]
) -> ModelSpec | None:
    """Types and ranges, by the annotations of the dataclasses."""
    known: dict[str, Any] = {k: document[k] for k in TOP_KEYS if k in document}
    task = known.get("task")
    if task in LATER_TASKS:
        problems.append(f"task = {task!r}: not yet supported; 'classification' is")
        known["task"] = "classification"
    for name, section in SECTIONS.items():
        table = document.get(name)
        if isinstance(table, Mapping):
            fields = {f.name for f in dataclasses.fields(section)}
            known[name] = {k: v for k, v in table.items() if k in fields}
        elif table is not None:
            problems.append(f"{name} = {table!r}: a section [{name}] was expected")
    gates = read_gates(document.get("gates"), problems)
    # The real schema was read by hand already: this one only fills its place.
    known["schema"] = {"features": []}
    try:
        parsed = _ADAPTER.validate_json(json.dumps(known, default=str), strict=True)
    except ValidationError as error:
        problems.extend(
            _describe(item)
            for item in error.errors(include_url=False)
            if item["loc"][:2] != ("model", "costs")  # _rules says it
        )
        return None
    return None if schema is None else dataclasses.replace(parsed, schema=schema, gates=gates)


def _describe(item: Any) -> str:
    loc = [p for p in item["loc"] if isinstance(p, (str, int))]
    section = f"[{loc[0]}] " if len(loc) > 1 else ""
    key = str(loc[1]) if len(loc) > 1 else str(loc[0])
    index = f"[{loc[2]}]" if len(loc) > 2 and isinstance(loc[2], int) else ""
    if item["type"] == "missing":
        return f"{section}{key} is missing"
    value = item.get("input")
    return f"{section}{key}{index} = {value!r}: {_expected(item, key)}"


def _expected(item: Any, key: str) -> str:
    kind, context = str(item["type"]), item.get("ctx", {})
    if kind == "string_pattern_mismatch" and key == "name":
        return "lower-case letters, digits, '.', '_' and '-' (at most 80) were expected"
    if kind == "string_pattern_mismatch" and key == "bound":
        return (
            "the name of a bound source is part of a topic's: letters, digits, '_' and '-' (at most"
            " 80) were expected"
        )
    if kind in ("float_type", "int_type", "float_parsing", "int_parsing", "finite_number"):
        unit = next((u for s, u in UNITS.items() if key.endswith("_" + s)), None)
        what = "a whole number" if kind.startswith("int") else "a number"
        return f"{what}{f' of {unit}' if unit else ''} was expected"
    if kind == "int_from_float":
        return "a whole number was expected"
    if kind == "literal_error":
        return f"{context['expected']} was expected"
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        words = {
            "greater_than": "more than",
            "greater_than_equal": "at least",
            "less_than": "less than",
            "less_than_equal": "at most",
        }
        return f"{words[kind]} {next(iter(context.values()))} was expected"
    plain = {
        "string_type": "a text was expected",
        "string_too_short": "a text that is not empty was expected",
        "tuple_type": "a list was expected",
        "bool_type": "true or false was expected",
    }
    return plain.get(kind, str(item["msg"]))


# --- what belongs together ----------------------------------------------------------------------


def _rules(document: Mapping[str, Any], schema: Schema | None, problems: list[str]) -> None:
    def has(section: str, key: str) -> bool:
        table = document.get(section)
        return isinstance(table, Mapping) and table.get(key) not in (None, "")

    level = document.get("level", "watch")
    needs: Sequence[tuple[str, str, str]] = ()
    baseline = (
        ("model", "version", "the version that serves now"),
        ("model", "onnx", "the model that serves now"),
        ("data", "trusted", "rows that no version was trained on, for the gates"),
    )
    if level == "rollback":
        needs = baseline
    elif level == "repair":
        needs = (
            *baseline,
            ("data", "reference", "the pool for replay in training"),
            ("teacher", "onnx", "what students are distilled from"),
        )
    for section, key, why in needs:
        if not has(section, key):
            problems.append(f"[{section}] {key} is missing: level = {level!r} needs it, {why}")
    data = any(has("data", key) for key in ("reference", "trusted"))
    if level == "watch" and (data or has("model", "onnx")) and not has("model", "version"):
        problems.append("[model] version is missing: which version do the files describe?")
    label = document["data"].get("label", "label") if data else None
    if schema is not None and label in schema.names:
        problems.append(
            f"[data] label = {label!r} is a feature as well: the model would be told the answer, or"
            " the labels stand in a column of another name"
        )
    if has("teacher", "torch"):
        torch = document["teacher"]["torch"]
        if not isinstance(torch, str) or not re.fullmatch(r"[\w.]+:\w+", torch):
            problems.append(f"[teacher] torch = {torch!r}: package.module:Class was expected")
        if not has("teacher", "weights"):
            problems.append("[teacher] weights is missing: [teacher] torch needs it (safetensors)")
    if has("repair", "schedule") and isinstance(document["repair"]["schedule"], str):
        schedule = document["repair"]["schedule"]
        if (wrong := cron.problem(schedule)) is not None:
            problems.append(f"[repair] schedule = {schedule!r}: {wrong}")
    if isinstance(document.get("labels"), Mapping):
        problems.extend(f"[labels] {told}" for told in _sources(document["labels"]))
    costs = document["model"].get("costs") if isinstance(document.get("model"), Mapping) else None
    if costs is not None:
        classes = None if schema is None else len(schema.classes)
        problems.extend(f"[model] {told}" for told in wrong_costs(costs, classes))
    if isinstance(document.get("card"), Mapping):
        problems.extend(
            f"[card] {key} has {len(said):,} characters: {LONGEST_TEXT:,} are shown at most"
            for key, said in document["card"].items()
            if isinstance(said, str) and len(said) > LONGEST_TEXT
        )
    if schema is not None and isinstance(document.get("privacy"), Mapping):
        stored = document["privacy"].get("store_features")
        problems.extend(
            f"[privacy] store_features: {name!r} is no feature"
            for name in (stored if isinstance(stored, list) else ())
            if isinstance(name, str) and not set(members(name, schema.names)) <= set(schema.names)
        )


def _sources(table: Mapping[str, Any]) -> list[str]:
    """What is wrong with the sources of labels, as far as the types are right."""
    lists = {key: table.get(key) for key in ("sources", "bound")}
    named = {
        k: [s for s in v if isinstance(s, str)] for k, v in lists.items() if isinstance(v, list)
    }
    told = []
    for key, names in named.items():
        twice = next((s for s in names if names.count(s) > 1), None)
        if twice is not None:
            told.append(f"{key}: {twice!r} stands there twice: the best stands first")
    sources, bound = named.get("sources", []), named.get("bound", [])
    if sources:
        told += [
            f"bound: {s!r} is not among [labels] sources: who is bound is believed, name it there"
            for s in bound
            if s not in sources
        ]
    return told


def _paths(
    document: Mapping[str, Any], folder: Path, problems: list[str]
) -> dict[tuple[str, str], str]:
    out: dict[tuple[str, str], str] = {}
    for section, keys in PATHS.items():
        table = document.get(section)
        if not isinstance(table, Mapping):
            continue
        for key in keys:
            value = table.get(key)
            if not isinstance(value, str) or not value:
                continue
            path = (folder / Path(value).expanduser()).absolute()
            wants_folder = key == "training"
            either = section == "data"  # rows may lie in a folder of part files
            if not (path.exists() if either else path.is_dir() if wants_folder else path.is_file()):
                what = "folder" if wants_folder else "file"
                problems.append(f"[{section}] {key} = {value!r}: there is no such {what} ({path})")
            out[section, key] = str(path)
    return out


def _with_paths(parsed: ModelSpec, paths: Mapping[tuple[str, str], str]) -> ModelSpec:
    changes: dict[str, Any] = {}
    for section in PATHS:
        values = {key: path for (where, key), path in paths.items() if where == section}
        current = getattr(parsed, section)
        if values and current is not None:
            changes[section] = dataclasses.replace(current, **values)
    stored = parsed.privacy.store_features
    if stored is not None:
        own = parsed.schema.names
        names = tuple(n for name in stored for n in members(name, own))
        changes["privacy"] = dataclasses.replace(parsed.privacy, store_features=names)
    return dataclasses.replace(parsed, **changes)
