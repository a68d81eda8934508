"""JSON Schemas of the events, made from their dataclasses: ``python -m
redistill.streams.wire.describe``.

The files in ``schemas/`` are what other programs read; a test holds them to the dataclasses.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from functools import cache
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from redistill.streams.wire import arrow_encode, events
from redistill.streams.wire.envelope import ARROW, JSON, MAX_ROWS

__all__ = ["batch_layout", "field_texts", "files", "load", "schema_of", "write"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_BASE = "urn:redistill:schema"
BATCH = "prediction-batch.v1"


def schema_of(type_name: str) -> dict[str, Any]:
    """JSON Schema of an event.

    Parameters
    ----------
    type_name
        Its ``ce_type``, a key of ``events.TYPES``.

    Examples
    --------
    >>> schema_of("redistill.label.v1")["required"]
    ['id', 'model', 'observed_at']
    """
    event = events.TYPES[type_name]
    (top,), parts = msgspec.json.schema_components([event], ref_template="#/$defs/{name}")
    body = parts.pop(event.__name__) if "$ref" in top else top
    texts = field_texts(events)
    for name, part in ((event.__name__, body), *parts.items()):
        if "description" in part:
            part["description"] = _unwrapped(part["description"])
        for key, value in part.get("properties", {}).items():
            if text := texts.get((name, key)):
                value["description"] = text
    out = {
        "$schema": DIALECT,
        "$id": f"{_BASE}:{type_name.removeprefix('redistill.')}",
        "x-ce-type": type_name,
        "x-content-type": JSON.decode(),
        "x-topic": events.TOPICS[event],
        **body,
    }
    if parts:
        out["$defs"] = parts
    return out


def batch_layout() -> dict[str, Any]:
    """The layout of a batch of predictions, which no JSON Schema can describe."""
    return {
        "$id": f"{_BASE}:{BATCH}",
        "x-ce-type": "redistill.prediction.v1",
        "x-content-type": ARROW.decode(),
        "x-topic": "predictions",
        "title": "A batch of predictions as an Arrow IPC stream",
        "description": inspect.cleandoc(arrow_encode.__doc__ or ""),
        "maxRows": MAX_ROWS,
    }


def files() -> dict[str, str]:
    """Name -> text of every file in ``schemas/``."""
    schemas = {name.removeprefix("redistill."): schema_of(name) for name in events.TYPES}
    schemas[BATCH] = batch_layout()
    return {
        f"{k}.json": json.dumps(v, indent=2, ensure_ascii=False) + "\n" for k, v in schemas.items()
    }


def load(type_name: str) -> dict[str, Any]:
    """The packaged schema of an event."""
    file = (
        resources.files("redistill.streams.wire.schemas")
        / f"{type_name.removeprefix('redistill.')}.json"
    )
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


@cache
def field_texts(module: ModuleType) -> dict[tuple[str, str], str]:
    """(Class, field) -> the string under the field, or under the member of an enum: Python forgets
    it, the source does not."""
    out = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, text in zip(node.body, node.body[1:], strict=False):
            target = field.targets[0] if isinstance(field, ast.Assign) else None
            target = field.target if isinstance(field, ast.AnnAssign) else target
            if (
                isinstance(target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                out[node.name, target.id] = _unwrapped(str(text.value.value))
    return out


def _unwrapped(text: str) -> str:
    """A docstring without the ends of its lines: they are the source's, paragraphs are its own."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(text))


def write(folder: Path) -> list[Path]:
    """Write all schemas into a folder; returns the paths."""
    out = []
    for name, text in files().items():
        (path := folder / name).write_text(text, encoding="utf-8")
        out.append(path)
    return out


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "schemas")
