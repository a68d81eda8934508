"""Predictions: records of their topic -> blocks. JSON rows grouped, Arrow batches as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from redistill.streams.errors import WireError
from redistill.streams.wire.arrow import decode_batches
from redistill.streams.wire.arrow_open import open_batch
from redistill.streams.wire.block import JOINED_ROWS, MAX_CELLS, PredictionBlock, Schema, alike
from redistill.streams.wire.columns import MAX_UNKNOWN
from redistill.streams.wire.envelope import (
    ARROW,
    JSON,
    MAX_EVENT_BYTES,
    Envelope,
    RecordLike,
    checked_names,
    open_envelope,
    type_name,
)
from redistill.streams.wire.events import PredictionMade
from redistill.streams.wire.foreign import other_content, wrapped
from redistill.streams.wire.grouped import Group, finish
from redistill.streams.wire.reading import is_ours
from redistill.streams.wire.recordset import RecordSet
from redistill.streams.wire.rows import ANY, AnyPlan, Plan, Row, lenient, plan_of

__all__ = ["BlockRun", "Decoded", "decode_predictions"]

BlockRun = list[tuple[PredictionBlock, NDArray[np.int64]]]
"""Neighbouring blocks of one version, each with the index of the record of each of its rows."""
Schemas = Callable[[str], Schema | None]

_BROKEN = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_FIELDS = tuple(f.name for f in fields(PredictionMade))
_STRETCH = 64
"""Records that are tried at once: one that does not fit makes so many take the slower way."""
_FORMS = 16
"""Forms of records that are remembered: models, and services that write about them."""
_OFTEN = 3
"""Rows with an unknown feature after which it is expected."""


@dataclass(slots=True, eq=False)
class Decoded:
    """What a list of records held."""

    blocks: list[PredictionBlock] = field(default_factory=list)
    """One per run of JSON rows of a model version, and one per Arrow batch. Blocks of one model
    version, and the rows in them, stand in the order of the log."""
    record_of: list[NDArray[np.int64]] = field(default_factory=list)
    """Per block, ``(n,)``: index of the record that each row came from."""
    dead: list[tuple[int, WireError]] = field(default_factory=list)
    """Index of each record that cannot be read, and why; in the order of the log."""
    records: int = 0
    """Records that were read: all, unless their rows have so many columns that no more should be
    in memory at once."""

    def followed_by(self, other: Decoded, records: int) -> Decoded:
        """This, and what the next records held; ``records``: how many are in this."""
        return Decoded(
            [*self.blocks, *other.blocks],
            [*self.record_of, *(of + records for of in other.record_of)],
            [*self.dead, *((i + records, why) for i, why in other.dead)],
        )

    def runs(self) -> list[BlockRun]:
        """The blocks in runs that can be counted as one; blocks of one version stay in order."""
        runs: list[BlockRun] = []
        last: dict[tuple[str, str], tuple[BlockRun, int]] = {}
        for block, record_of in zip(self.blocks, self.record_of, strict=True):
            key = (block.model, block.version)
            run, rows = last.get(key, ([], 0))
            rows += len(block)
            if not run or rows > JOINED_ROWS or not alike(run[-1][0], block):
                run, rows = [], len(block)
                runs.append(run)
            run.append((block, record_of))
            last[key] = (run, rows)
        return runs


def decode_predictions(records: RecordSet | Sequence[RecordLike], schemas: Schemas) -> Decoded:
    """Read predictions.

    Parameters
    ----------
    records
        Records in the order of the log; mixed models, versions and encodings are fine.
    schemas
        Schema of a model by name; ``None`` if nobody registered it: then its rows are told apart
        and counted, and nothing else of them is read.

    Returns
    -------
    Decoded
        Blocks and dead letters: every record is in exactly one of them, up to ``Decoded.records``.
    """
    if not isinstance(records, RecordSet):
        records = RecordSet.of(records)
    try:
        return _Decoding(records, schemas).run()
    except Exception as error:
        if is_ours(error):
            raise  # nothing is wrong with the records: they are read again
        # A defect of ours, which one of them shows: it is looked for by halves, and is the only one
        # that is not counted.
        if len(records) == 1:
            return Decoded(dead=[(0, WireError.failed(error))])
    half = len(records) // 2
    first = decode_predictions(records[:half], schemas)
    second = decode_predictions(records[half:], schemas)
    return first.followed_by(second, half)


class _Model:
    """One model within a call: how its rows are read, and where they go."""

    def __init__(self, name: str, schema: Schema | None) -> None:
        self.name = name
        self.schema = schema
        self.plan: Plan | AnyPlan = ANY if schema is None else plan_of(schema)
        self.decode = self.plan.decode
        self.groups: dict[str, Group] = {}
        self.version: str | None = None
        self.group = Group(name, "")

    def switch(self, version: str) -> None:
        """Let rows go to another version's group from now on."""
        if (group := self.groups.get(version)) is None:
            checked_names(self.name, version)
            group = self.groups[version] = Group(self.name, version)
        self.version, self.group = version, group

    def add(self, rows: list[Row], index: list[int]) -> None:
        """Add good rows of this model, of any version."""
        features = self.plan.settled([r.features for r in rows])
        versions = dict.fromkeys(r.version for r in rows)  # in their order, not that of a set
        for version in versions:
            if version != self.version:
                self.switch(version)
            if len(versions) == 1:
                self.group.add(rows, index, features)
                continue
            own = [i for i, r in enumerate(rows) if r.version == version]
            self.group.add(
                [rows[i] for i in own], [index[i] for i in own], [features[i] for i in own]
            )

    def extend(self) -> None:
        """Expect the extra features that keep coming: a row with them need not take the slow path.

        Each set of names costs a type (a third of a millisecond), so one stray name is not enough.
        """
        if self.schema is None or not isinstance(self.plan, Plan):
            return
        often = {n for n, met in self.group.faults.unknown_features.items() if met >= _OFTEN}
        extras = tuple(sorted(often.union(self.plan.extras)))
        if extras != self.plan.extras and len(extras) <= MAX_UNKNOWN:
            self.plan = plan_of(self.schema, extras)
            self.decode = self.plan.decode


class _Decoding:
    """One call of ``decode_predictions``."""

    def __init__(self, records: RecordSet, schemas: Schemas) -> None:
        self.records = records
        self.schemas = schemas
        self.out = Decoded()
        self.models: dict[str, _Model] = {}
        self.model = _Model("", None)  # of the last row
        self.hint: bytes | None = None  # key of the last JSON record
        self.form_of = np.full(len(records), -1)  # (n,) index into forms; -1: not known
        self.forms: list[_Model] = []  # models of good JSON records of one form
        self.batches: list[tuple[int, Any]] = []  # Arrow batches of one kind, not yet a block
        self.cells = 0  # rows times features of the Arrow batches so far

    def run(self) -> Decoded:
        """Read all records."""
        at, end = 0, len(self.records)
        while at < end and self.cells <= MAX_CELLS:
            which = self._known(at, min(at + _STRETCH, end))
            if not which:
                self._one(at)
                at += 1
                continue
            stop = at + len(which)
            self._settle_batches()
            if not self._stretch(at, stop, which):
                for i in range(at, stop):
                    self._one(i)
            at = stop
        self.out.records = at
        self._settle_batches()
        for model in self.models.values():
            for version in list(model.groups):
                self._close(model, version)
        self.out.dead.sort(key=lambda entry: entry[0])
        return self.out

    def _known(self, start: int, stop: int) -> list[_Model]:
        """Models of the records from ``start`` on, as far as their forms are known."""
        forms = self.form_of[start:stop].tolist()
        end = forms.index(-1) if -1 in forms else len(forms)
        return [self.forms[f] for f in forms[:end]]

    def _learn(self, i: int) -> None:
        """Recognise records like this one from now on: a good JSON row of ``self.model``."""
        if len(self.forms) < _FORMS and (form := self.records.form(i)) is not None:
            self.form_of[self.records.alike(form) & (self.form_of < 0)] = len(self.forms)
            self.forms.append(self.model)

    def _stretch(self, start: int, stop: int, which: list[_Model]) -> bool:
        """Read a stretch of JSON rows whose forms are known; ``False``: one of them does not fit.

        What all have in common is looked at once, and the loops run in C.
        """
        values = self.records.values(start, stop)
        if values is None or max(map(len, values)) > MAX_EVENT_BYTES:
            return False
        index: dict[_Model, list[int]] = {}
        if len(set(which)) == 1:
            index[which[0]] = list(range(start, stop))
        else:
            for i, model in enumerate(which, start):
                index.setdefault(model, []).append(i)
        stretch: list[tuple[_Model, list[int], list[Row]]] = []
        try:
            for model, own in index.items():
                texts = values if len(index) == 1 else [values[i - start] for i in own]
                rows = list(map(model.decode, texts))
                if {r.model for r in rows} != {model.name}:
                    return False
                for version in {r.version for r in rows}:
                    checked_names(model.name, version)
                stretch.append((model, own, rows))
        except (*_BROKEN, WireError):  # one that does not fit
            return False
        for model, own, rows in stretch:
            model.add(rows, own)
        return True

    def _one(self, i: int) -> None:
        """Read one record, whatever it is."""
        record = self.records[i]
        try:
            envelope = self._open(record)
            data = envelope.data
            if envelope.content_type == ARROW:
                self._batch(i, data)
                return
            self._settle_batches()
            if record.key != self.hint:
                self.hint = record.key
                self.model = self._hinted(record.key) or self.model
            self._row(i, data)
            # where the event lies inside the value, the headers say nothing about it
            if data is record.value and self.form_of[i] < 0:
                self._learn(i)
        except WireError as why:
            self.out.dead.append((i, why.alone()))

    def _open(self, record: RecordLike) -> Envelope:
        envelope = open_envelope(record)
        if envelope.event is not PredictionMade:
            raise WireError("unknown_type", f"{type_name(envelope.event)} among predictions")
        if envelope.content_type not in (JSON, ARROW):
            raise other_content(envelope.content_type)
        return envelope

    def _hinted(self, key: bytes | None) -> _Model | None:
        """The model that a record's key names, if it is a name."""
        try:
            return self._model((key or b"").decode())
        except (WireError, UnicodeDecodeError):
            return None

    def _model(self, name: str) -> _Model:
        if (model := self.models.get(name)) is None:
            checked_names(name, "any")
            model = self.models[name] = _Model(name, self.schemas(name))
        return model

    def _row(self, i: int, data: bytes) -> None:
        """One JSON row: as this model's type, else of the model it names, else tolerantly."""
        row, model = _try(self.model, data), self.model
        if row is None or row.model != model.name:
            row = None
            try:
                named = self._model(_PEEK.decode(data).model)
            except _BROKEN:
                named = model
            if named is not model:
                model = named
                row = _try(model, data)
        if row is None:
            raw = lenient(data)
            name, version = raw.get("model"), raw.get("version")
            if not isinstance(name, str) or not isinstance(version, str):
                raise WireError(
                    "missing_field",
                    f"model or version is missing or no string{wrapped(raw, *_FIELDS)}",
                )
            model = self._model(name)
            model.switch(version)
            row = model.plan.tolerant(raw, model.group.faults)
            model.extend()
        self.model = model
        if row.version != model.version:
            model.switch(row.version)
        model.group.add([row], [i], [None if model.schema is None else row.features])

    def _batch(self, i: int, data: bytes) -> None:
        """Open an Arrow batch; it waits for others of its kind."""
        batch = open_batch(data)
        if self.batches:
            rows = sum(b.num_rows for _, b in self.batches)
            like = batch.schema.equals(self.batches[0][1].schema, check_metadata=True)
            if not like or rows + batch.num_rows > JOINED_ROWS:
                self._settle_batches()
        self.batches.append((i, batch))

    def _settle_batches(self) -> None:
        """Make a block of the batches that wait, if nothing is wrong with any; else one of each."""
        waiting, self.batches = self.batches, []
        if len(waiting) > 1:
            rows = sum(b.num_rows for _, b in waiting)
            try:
                block = decode_batches([b for _, b in waiting], self.schemas)
            except WireError:
                pass
            else:
                if len(block) == rows and block.flawless:
                    self._add(block, [i for i, _ in waiting], [b.num_rows for _, b in waiting])
                    return
        for i, batch in waiting:
            try:
                block = decode_batches([batch], self.schemas)
            except WireError as why:
                self.out.dead.append((i, why.alone()))
            else:
                self._add(block, [i], [len(block)])

    def _add(self, block: PredictionBlock, index: list[int], rows: list[int]) -> None:
        if (model := self.models.get(block.model)) is not None:
            self._close(model, block.version)  # its rows stand before these in the log
        self.cells += block.features.size
        self.out.blocks.append(block)
        self.out.record_of.append(np.repeat(np.array(index, np.int64), rows))

    def _close(self, model: _Model, version: str) -> None:
        """Make the block of what has come of a version so far."""
        if (group := model.groups.pop(version, None)) is None:
            return
        model.version = None
        block, index, dead = finish(group, model.schema, model.plan)
        self.out.dead.extend(dead)
        if block is not None:
            self.out.blocks.append(block)
            self.out.record_of.append(np.array(index, np.int64))


def _try(model: _Model, data: bytes) -> Row | None:
    try:
        return model.decode(data)
    except _BROKEN:
        return None


class _Peek(msgspec.Struct):
    model: str


_PEEK = msgspec.json.Decoder(_Peek)
