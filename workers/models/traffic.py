"""Traffic of an unregistered model as a first ``model.toml``: columns, categories, classes, slices.

Stream workers keep a sample of at most 1,000 rows of every model that nobody registered
(``unregistered.sample``, an Arrow batch in the layout of the wire). What is learned from it is
written as a file for its owner to look over.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from redistill.streams.store.tables import specs, unregistered
from redistill.streams.wire.block import Feature
from redistill.textform import number_text
from redistill.workers.errors import UsageError
from redistill.workers.models import toml_text
from redistill.workers.models.spec_schema import MAX_VALUES

__all__ = ["Seen", "look", "to_toml"]

MAX_CLASSES = 100
"""More distinct predictions than this are numbers, not classes."""
MAX_SLICES = 10
FEWEST = 20
"""Values of which it can be seen whether they repeat."""
MAX_SLICE_VALUES = 50
_FLAGS = {"True": "true", "False": "false"}
"""How older loggers wrote booleans, and how they are written: one class, not two."""


@dataclass(slots=True)
class Seen:
    """What the rows of one model looked like."""

    model: str
    version: str
    """The one that was seen last."""
    rows: int
    """Rows that were counted, sampled or not."""
    sampled: int = 0
    numbers: dict[str, None] = field(default_factory=dict)
    """Numeric features in the order of the wire."""
    categories: dict[str, Counter[str]] = field(default_factory=dict)
    predictions: Counter[str] = field(default_factory=Counter)
    top: dict[int, Counter[str]] = field(default_factory=dict)
    """Index of the largest score -> what was predicted."""
    single: dict[str, list[float]] = field(default_factory=dict)
    """What was predicted -> the scores of rows that have just one."""
    scores: int = 0
    """Scores per row; 0: none."""
    segments: dict[str, Counter[str]] = field(default_factory=dict)
    unusable: set[str] = field(default_factory=set)
    """Columns whose names hold NUL: no finding about them could be stored."""
    fractional: bool = False
    """Whether a prediction was a number with a fraction."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """The columns: numbers first, in the order of the wire, then categories by name."""
        return (
            *(Feature(name=n) for n in self.numbers if n not in self.categories),
            *(
                Feature(
                    name=n,
                    kind="category",
                    values=tuple(sorted(v for v, _ in seen.most_common(MAX_VALUES))),
                )
                for n, seen in sorted(self.categories.items())
            ),
        )

    def identifiers(self) -> tuple[str, ...]:
        """Warnings about categories that look like ids: they are kept, and most values are new."""
        return tuple(
            f"the values of {name[:80]!r} hardly repeat: if it is an id and no input of the model,"
            " take it out of [schema.features]"
            for name, seen in sorted(self.categories.items())
            if seen.total() >= FEWEST and len(seen) > seen.total() / 2
        )

    def classes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Class names in the order of the scores, and warnings about what had to be guessed.

        The class at index ``i`` is what was predicted when score ``i`` was the largest.
        """
        if self.scores <= 1:
            return self._by_one_score()
        names: dict[int, str] = {}
        for index, seen in sorted(self.top.items(), key=lambda item: -sum(item[1].values())):
            name = next((n for n, _ in seen.most_common() if n not in names.values()), None)
            if name is not None:
                names[index] = name
        left = [n for n in sorted(self.predictions) if n not in names.values()]
        missing = [i for i in range(self.scores) if i not in names]
        guessed = []
        for i in missing:
            names[i] = left.pop(0) if left else f"class-{i}"
            guessed.append(f"{i}: {names[i]}")
        warnings: tuple[str, ...] = ()
        if guessed:
            warnings = (
                "the sample does not show which class these scores belong to, correct the names in"
                f" [schema] classes: {', '.join(guessed[:10])}",
            )
        return tuple(names[i] for i in range(self.scores)), warnings

    def _by_one_score(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Classes where no score tells their order, or one does: of two classes it is the second's
        probability.
        """
        names = tuple(sorted(self.predictions))
        if not self.single or len(names) != 2:
            return names, ()
        first, second = (self.single.get(n, [np.nan]) for n in names)
        if min(first) >= max(second):
            names, first, second = names[::-1], second, first
        if max(first) <= min(second):
            return names, ()
        return names, (
            "each row has one score, and the sample does not show whose probability it is; it is"
            f" taken as that of {names[1]!r}: correct the order of [schema] classes otherwise",
        )

    def slices(self) -> tuple[str, ...]:
        """Segments with few values."""
        few = [k for k, seen in self.segments.items() if 1 < len(seen) <= MAX_SLICE_VALUES]
        return tuple(sorted(few)[:MAX_SLICES])


def look(conn: sa.Connection, model: str) -> Seen:
    """Everything that is known of a model that nobody registered.

    Raises
    ------
    UsageError
        Nothing was seen of it; the message says what was.
    """
    rows = conn.execute(
        sa.select(unregistered)
        .where(unregistered.c.model == model)
        .order_by(unregistered.c.last_seen_at)
    ).all()
    if not rows:
        raise UsageError(_nothing(conn, model))
    seen = Seen(model, str(rows[-1].version), sum(int(r.rows) for r in rows))
    for row in rows:
        if row.sample is not None:
            _add(seen, bytes(row.sample))
    if not seen.sampled:
        raise UsageError(
            f"{seen.rows:,} rows of {model} were counted, but no sample of them is stored yet:"
            " try again in a few seconds, with a stream worker running"
        )
    if seen.fractional or len(seen.predictions) > MAX_CLASSES:
        raise UsageError(
            f"the predictions of {model} are numbers, not classes: regression is not yet supported"
        )
    if not seen.features:
        raise UsageError(
            f"the rows of {model} carry no features: log them, or write a model.toml by hand"
        )
    if len(seen.predictions) < 2 and seen.scores < 2:
        only = next(iter(seen.predictions), "nothing")
        raise UsageError(
            f"{model} only ever predicted {only!r} in {seen.sampled:,} sampled rows: wait for more"
            " traffic, or write a model.toml with all [schema] classes"
        )
    return seen


def to_toml(seen: Seen) -> tuple[str, tuple[str, ...]]:
    """A ``model.toml`` of level *watch*, with comments for who edits it.

    Returns
    -------
    tuple
        The text, and warnings about what had to be guessed.
    """
    classes, warnings = seen.classes()
    warnings += seen.identifiers()
    if seen.unusable:
        said = ", ".join(map(repr, sorted(seen.unusable)[:5]))
        warnings += (f"columns whose names hold NUL are left out: {said}",)
    lines = [
        f"# Learned from {seen.sampled:,} rows of traffic by `redistill register {seen.model}"
        " --from-traffic`.",
        "# Look it over; after a change run `redistill register` with this file.",
        "format = 1",
        f"name = {toml_text.text(seen.model)}",
        'task = "classification"',
        'level = "watch"             # rollback | repair: see docs/model-toml.md for what they '
        "need",
        "",
        "[model]",
        f"version = {toml_text.text(seen.version)}",
        "",
        "[schema]",
        "# The order is that of the scores: scores[i] belongs to classes[i].",
        f"classes = {toml_text.names(classes)}",
    ]
    if slices := seen.slices():
        lines.append(f"slices = {toml_text.names(slices)}")
    lines += [
        "",
        "[schema.features]           # declare min and max where values outside are wrong: "
        '{ type = "float", min = 0 }',
    ]
    lines += [f"{toml_text.key(f.name)} = {toml_text.feature(f)}" for f in seen.features]
    lines += [
        "",
        "[labels]",
        "wait_days = 30              # how long a label may take",
        "",
        "[watch]",
        "tolerance_points = 1.0      # loss of accuracy that nobody need be woken for",
        "",
    ]
    return "\n".join(lines), warnings


def _nothing(conn: sa.Connection, model: str) -> str:
    if conn.execute(sa.select(specs.c.model).where(specs.c.model == model)).first():
        return f"{model} is registered already"
    names = conn.execute(
        sa.select(unregistered.c.model).distinct().order_by(unregistered.c.model).limit(20)
    ).scalars()
    others = ", ".join(names)
    hint = f"unregistered models that were seen: {others}" if others else "no model was seen at all"
    return (
        f"no rows of {model!r} were seen ({hint}): is a stream worker running, on the broker and"
        " namespace that the service logs to?"
    )


def _add(seen: Seen, data: bytes) -> None:
    """Add one stored sample."""
    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all()
    metadata = table.schema.metadata or {}
    for name in json.loads(metadata.get(b"redistill.features", b"[]")):
        if "\0" in name:
            seen.unusable.add(name)
        else:
            seen.numbers.setdefault(str(name))
    for column in table.column_names:
        if "\0" in column:
            seen.unusable.add(column.partition(".")[2])
        elif column.startswith("feature."):
            counts = seen.categories.setdefault(column.removeprefix("feature."), Counter())
            counts.update(_texts(table.column(column)))
        elif column.startswith("segment."):
            counts = seen.segments.setdefault(column.removeprefix("segment."), Counter())
            counts.update(_texts(table.column(column)))
    predictions = [_class(seen, v) for v in table.column("prediction").to_pylist()]
    seen.predictions.update(p for p in predictions if p is not None)
    seen.sampled += table.num_rows
    if "scores" in table.column_names:
        _add_scores(seen, predictions, table.column("scores").to_pylist())


def _add_scores(seen: Seen, predictions: Sequence[str | None], scores: Sequence[Any]) -> None:
    for name, row in zip(predictions, scores, strict=True):
        if name is None or not row:
            continue
        seen.scores = max(seen.scores, len(row))
        values = np.array([np.nan if v is None else v for v in row], np.float64)
        if np.isnan(values).all():
            continue
        if len(row) == 1:
            seen.single.setdefault(name, []).append(float(values[0]))
        else:
            seen.top.setdefault(int(np.nanargmax(values)), Counter())[name] += 1


def _class(seen: Seen, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, float):
        seen.fractional |= not value.is_integer()
        return number_text(value)
    return _FLAGS.get(value, str(value))


def _texts(column: pa.ChunkedArray) -> list[str]:
    return [str(v) for v in column.to_pylist() if v is not None]
