"""First ``model.toml`` of an ONNX file: what the file and the model's traffic tell, and a commented
line, marked, for each thing that they do not.

The file is checked and run in a limited child process, on random rows, to see whether its scores
are probabilities.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from redistill import onnxadopt, onnxclasses, onnxfile, onnxtrial
from redistill.onnxports import OnnxError, Port
from redistill.streams.wire.block import Feature
from redistill.workers.errors import SpecError, UsageError
from redistill.workers.models import scoring, toml_text
from redistill.workers.models.scoring import ScoringCall
from redistill.workers.models.traffic import Seen

__all__ = ["FILL_IN", "look", "to_toml"]

FILL_IN = "fill in:"
"""Marks a commented line whose value nobody told: replace what stands there, take the # away."""
ROWS = 64
"""Random rows on which the kind of the scores is found."""
MEMORY_MB, SECONDS = 4_096, 60.0
"""Limits of the child in which the file is run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LookedAt:
    """What an ONNX file tells."""

    path: Path
    inputs: tuple[str, ...]
    """Names of the features, where there is an input for each; empty: one matrix."""
    width: int | None
    """Columns of the matrix; ``None``: any number, or no matrix."""
    classes: tuple[str, ...]
    """In the order of the scores; empty: not told."""
    scores: int | None
    """Classes that are scored; ``None``: not told."""
    outputs: tuple[str, ...]
    """Of float32, where it takes a choice between them; empty: it does not."""
    kind: str | None
    """``logits`` or ``probabilities``, by its answers; ``None``: it could not be run yet."""


def look(path: Path, *, seed: int = 0) -> LookedAt:
    """Read an ONNX file.

    Parameters
    ----------
    seed
        Of the random rows.

    Raises
    ------
    UsageError
        It cannot be used; the message says why.
    """
    try:
        if path.is_dir():
            raise OnnxError(f"{path} is a folder: name the ONNX file in it")
        data = onnxfile.read(path)
        onnxtrial.try_large(path.name, data)
        facts = onnxfile.check_bytes(path.name, data)
        classes = onnxclasses.class_names(path.name, data)
    except OnnxError as error:
        raise UsageError(f"--onnx: {error}") from error
    named = len(facts.inputs) > 1
    shape = facts.inputs[0].shape
    width = shape[1] if not named and len(shape) == 2 else None
    inputs = tuple(p.name for p in facts.inputs) if named else ()
    scored = [p for p in facts.outputs if p.element in ("FLOAT", *onnxadopt.CAST)]
    choice = tuple(p.name for p in scored) if len(scored) > 1 else ()
    scores = len(classes) or _scores(scored)
    features = inputs or tuple(f"x{i}" for i in range(width or 0))
    kind = None
    if features and scores and not choice:
        kind = _kind(path, data, features, classes or tuple(map(str, range(scores))), seed)
    return LookedAt(
        path=path,
        inputs=inputs,
        width=width,
        classes=classes,
        scores=scores,
        outputs=choice,
        kind=kind,
    )


def _scores(outputs: Sequence[Port]) -> int | None:
    """Classes that the one output scores; a single score is that of the second of two."""
    if len(outputs) != 1:
        return None
    shape = outputs[0].shape
    if len(shape) == 1:
        return 2
    return max(2, shape[1]) if len(shape) == 2 and shape[1] else None


def _kind(
    path: Path, data: bytes, features: Sequence[str], classes: Sequence[str], seed: int
) -> str | None:
    rows = np.random.default_rng(seed).normal(size=(ROWS, len(features))).astype(np.float32)
    for kind in ("logits", "probabilities"):
        try:
            graph = onnxadopt.adopt(
                path.name, data, features=features, classes=classes, output=None, kind=kind
            )
            call = ScoringCall(
                path=path,
                place="--onnx",
                layout=graph.layout,
                output=graph.output,
                kind=kind,
                data=graph.data,
            )
            scoring.answers(
                [(call, rows)], classes=len(classes), memory_mb=MEMORY_MB, seconds=SECONDS
            )
        except OnnxError as error:
            if 'output_kind must be "probabilities"' not in str(error):
                raise UsageError(f"--onnx: {error}") from error
        except SpecError:
            continue  # of another kind; what else is wrong with it, registration says in full
        else:
            return kind
    return None


def to_toml(
    found: LookedAt, seen: Seen | None = None, *, folder: Path = Path()
) -> tuple[str, tuple[str, ...]]:
    """A ``model.toml`` of level *rollback*.

    Parameters
    ----------
    seen
        The model's traffic; ``None``: it was not looked at.
    folder
        Where the file will lie: paths in it are relative to that.

    Returns
    -------
    tuple
        The text, and warnings about what contradicts itself or was guessed.
    """
    warnings: list[str] = []
    features = _features(found, seen, warnings)
    classes = _classes(found, seen, warnings)
    name = seen.model if seen is not None else _name(found.path)
    version = None if seen is None else seen.version
    source = f"{found.path.name}" + (
        "" if seen is None else f" and {seen.sampled:,} rows of traffic"
    )
    lines = [
        f"# Written by `redistill init` from {toml_text.comment(source)}. A commented line that"
        f' says "{FILL_IN}"',
        "# is something that they do not tell: give the value and take the # in front away. Then",
        "# `redistill register model.toml --dry-run` says what is missing or wrong.",
        "format = 1",
        f"name = {toml_text.text(name)}",
        'task = "classification"',
        'level = "rollback"          # "repair" needs [teacher] and [data] reference as well',
        "",
        "[model]",
        _line("version", version, "the version that serves now, as services log it"),
        f"onnx = {toml_text.text(os.path.relpath(found.path, folder))}",
    ]
    if found.outputs:
        told = f"the output with a score per class, one of {', '.join(found.outputs[:12])}"
        lines.append(_line("output", None, told, example=found.outputs[-1]))
    if found.kind is None:
        lines.append(_line("output_kind", None, '"logits" or "probabilities"', example="logits"))
    else:
        lines.append(f"output_kind = {toml_text.text(found.kind)}")
    lines += [
        "",
        '# [teacher]                 # level "repair": the large model that students learn from',
        '# onnx = "teacher.onnx"',
        "",
        "[schema]",
        "# The order is that of the scores: scores[i] belongs to classes[i].",
    ]
    if classes:
        lines.append(f"classes = {toml_text.names(classes)}")
    else:
        example = tuple(f"class-{i}" for i in range(found.scores or 2))
        lines.append(
            f"# classes = {toml_text.names(example)}  # {FILL_IN} the names that labels have"
        )
    if seen is not None and (slices := seen.slices()):
        lines.append(f"slices = {toml_text.names(slices)}")
    lines += ["", "[schema.features]           # in the order in which the graph takes them"]
    if features:
        lines += [f"{toml_text.key(f.name)} = {toml_text.feature(f)}" for f in features]
    else:
        last = "" if found.width is None else f"the {found.width} columns, "
        lines.append(
            f'# "x[0-{(found.width or 1) - 1}]" = "float"  # {FILL_IN} {last}'
            'such as income = "float", age = "int", region = ["EU", "US"]'
        )
    lines += [
        "",
        "[data]",
        _line(
            "trusted",
            None,
            "labelled rows that no version was trained on (Parquet, CSV, a folder)",
            example="trusted.parquet",
        ),
        '# reference = "reference.parquet"  # level "repair": the pool for replay in training',
        '# label = "label"           # column of the labels, where it has another name',
        "",
        "[labels]",
        "wait_days = 30              # how long a label may take",
        "",
        "[watch]",
        "tolerance_points = 1.0      # loss of accuracy that nobody need be woken for",
        "",
    ]
    return "\n".join(lines), tuple(warnings)


def _line(key: str, value: str | None, told: str, *, example: str = "1") -> str:
    if value is not None:
        return f"{key} = {toml_text.text(value)}"
    return f"# {key} = {toml_text.text(example)}  # {FILL_IN} {toml_text.comment(told)}"


def _features(found: LookedAt, seen: Seen | None, warnings: list[str]) -> tuple[Feature, ...]:
    """In the order of the events; without traffic as the graph names its inputs."""
    if seen is None:
        return tuple(Feature(name=n) for n in found.inputs)
    features = seen.features
    warnings += seen.identifiers()
    names = tuple(f.name for f in features)
    if found.inputs and set(found.inputs) != set(names):
        lacking = sorted(set(found.inputs) - set(names))
        extra = sorted(set(names) - set(found.inputs))
        told = f"inputs that no event has: {', '.join(lacking[:5])}" if lacking else ""
        told += "; " if lacking and extra else ""
        told += f"features that are no inputs: {', '.join(extra[:5])}" if extra else ""
        warnings.append(f"graph and traffic do not agree ({told}): correct [schema.features]")
    elif found.width is not None and found.width != len(names):
        warnings.append(
            f"the graph takes {found.width} columns, and events have {len(names)} features: correct"
            " [schema.features]"
        )
    elif not found.inputs and any(f.kind == "category" for f in features):
        warnings.append(
            "events do not tell where in the graph's matrix a category stands, nor the index of its"
            " values: look over the order of [schema.features] and of the values in it"
        )
    return features


def _classes(found: LookedAt, seen: Seen | None, warnings: list[str]) -> tuple[str, ...]:
    """As the file tells them; else as scores and predictions of the traffic do."""
    if seen is None:
        return found.classes
    learned, guessed = seen.classes()
    if not found.classes:
        warnings += guessed
        if found.scores is not None and len(learned) != found.scores:
            warnings.append(
                f"the graph scores {found.scores} classes, and events show {len(learned)}: they are"
                " left to be filled in"
            )
            return ()
        return learned
    if strange := sorted(set(seen.predictions) - set(found.classes)):
        warnings.append(
            f"events predict {', '.join(strange[:5])}, which the file does not name: correct"
            " [schema] classes to what services log"
        )
    return found.classes


def _name(path: Path) -> str:
    """A model's name like that of its file."""
    name = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).lstrip("._-")[:80]
    return name or "model"
