"""Policy file of ``redistill gate``: what it shares with ``model.toml``, under the same keys.

A ``model.toml`` will do as it stands; what only registration needs may be left out, and files that
it names are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redistill import tomlfile
from redistill.streams.wire.block import Schema
from redistill.workers.errors import SpecError
from redistill.workers.models import spec_file
from redistill.workers.models.spec import ModelSpec

__all__ = ["NO_POLICY", "GatePolicy", "read"]

EMPTY = Schema(features=(), classes=())


@dataclass(frozen=True, kw_only=True, slots=True)
class GatePolicy:
    """What somebody asks of a candidate."""

    spec: ModelSpec
    """Of it ``gates``, ``repair.max_bytes``, ``repair.max_p95_ms``, ``serving.batch``, ``model``
    (output, kind, costs) and ``data.label`` count."""
    schema: Schema | None = None
    """``None``: the file declares none."""
    kind_is_told: bool = False
    """Whether ``[model] output_kind`` is written."""


NO_POLICY = GatePolicy(spec=ModelSpec(name="model", schema=EMPTY))
"""Defaults of every gate."""


def read(path: Path) -> GatePolicy:
    """Read ``gates.toml``, or a ``model.toml``.

    Raises
    ------
    SpecError
        Naming everything that is wrong.
    """
    if path.is_dir():
        raise SpecError(f"{path} is a folder: name the file, such as {path / 'gates.toml'}")
    try:
        document: dict[str, Any] = tomlfile.parse(tomlfile.read(path), path)
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file") from None
    except tomlfile.TomlError as error:
        raise SpecError(str(error)) from error
    spec, schema, problems = spec_file.partly(document)
    if problems or spec is None:
        listed = "".join(f"\n  {p}" for p in problems)
        raise SpecError(f"{path} cannot be used:{listed}")
    model = document.get("model")
    return GatePolicy(
        spec=spec,
        schema=schema,
        kind_is_told=isinstance(model, dict) and "output_kind" in model,
    )
