"""Outcomes of one version, that is predictions with their labels, and what is remembered of them:
arrays and plain values, no pickle."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from redistill.streams.errors import StateError
from redistill.streams.monitor import alarm_budget
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.harm import HarmTest
from redistill.streams.monitor.memory import Memory
from redistill.streams.monitor.seal import Place, seal, unseal
from redistill.streams.monitor.slice_memory import SliceMemory
from redistill.streams.monitor.slice_tests import SliceTests
from redistill.streams.wire.block import Codes
from redistill.streams.wire.events import DriftFound

__all__ = ["AccuracyState", "Outcomes"]

FORMAT = 3
"""1 forgot with each recovery what was before it, 2 had no tests of slices; both are still read."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outcomes:
    """Predictions joined with their labels, in the order in which the labels were numbered."""

    error: NDArray[np.uint8]  # (n,) 1 = wrong
    served_at: NDArray[np.int64]  # (n,) microseconds since 1970
    received_at: NDArray[np.int64]  # (n,) when the label came, microseconds, by our own clock
    confidence: NDArray[np.float32] | None = None  # (n,) largest score; NaN = unknown
    uniform: NDArray[np.bool_] | None = None  # (n,) drawn uniformly; None = all
    p_include: NDArray[np.float64] | None = None  # (n,) NaN = the service chose
    slices: Mapping[str, Codes] = field(default_factory=dict)
    """Value of each row per column of slices, ``(n,)`` each; missing: in none of its slices."""
    slice_only: Codes | None = None
    """``(n,)`` ``column=value`` of the request for labels of one slice that asked for the row:
    it feeds the test of that slice and nothing else, and ``uniform`` is false of it."""

    def __post_init__(self) -> None:
        n = len(self.error)
        for name, codes in self.slices.items():
            if len(codes.codes) != n:
                raise ValueError(f"slices of {name!r} are of {len(codes.codes)} rows, not of {n}")
        if self.slice_only is None:
            return
        asked = self.slice_only.codes >= 0
        if len(asked) != n:
            raise ValueError(f"slice_only is of {len(asked)} rows, not of {n}")
        if asked.any() and (self.uniform is None or (self.uniform & asked).any()):
            raise ValueError("a row asked for by a request of one slice is not drawn uniformly")

    def __len__(self) -> int:
        return len(self.error)


@dataclass(slots=True, eq=False)
class AccuracyState:
    """What is remembered of one version's outcomes. Treat as a value: ``account`` returns a new
    one."""

    version: str
    n: int = 0
    """Outcomes seen."""
    errors: int = 0
    uniform_n: int = 0
    """Outcomes that the test saw."""
    opened: int = 0
    """Findings opened so far."""
    finding: DriftFound | None = None
    """The open finding."""
    base: BaseError | None = None
    """The base error in use; ``None`` while it is being learned."""
    share: float = 1.0
    """Label share for which the test is tuned."""
    settled: bool = False
    """The threshold is frozen until the test's next reset."""
    test: HarmTest | None = None
    learning: Memory = field(default_factory=Memory)
    """First outcomes of a version without a base error."""
    slices: SliceTests | None = None
    """Tests of the slices; ``None``: what to expect of them is not known."""
    slice_findings: dict[int, DriftFound] = field(default_factory=dict)
    """Open findings of slices, by their index."""

    def copy(self) -> AccuracyState:
        """An independent copy."""
        return dataclasses.replace(
            self,
            test=self.test.copy() if self.test else None,
            learning=self.learning.copy(),
            slices=self.slices.copy() if self.slices else None,
            slice_findings=dict(self.slice_findings),
        )

    def to_bytes(self, key: bytes, *, model: str) -> bytes:
        """As stored in ``accuracy_states.state``: arrays and plain values with a format number, no
        pickle, sealed for model and version.

        Parameters
        ----------
        key
            Secret of this installation.
        """
        memory = self.test.memory if self.test else self.learning
        header = {
            "format": FORMAT,
            "version": self.version,
            "n": self.n,
            "errors": self.errors,
            "uniform_n": self.uniform_n,
            "opened": self.opened,
            "finding": self.finding,
            "base": self.base,
            "share": self.share,
            "settled": self.settled,
            "test": self._test_numbers(),
            "memory": _plain_memory(memory),
            "slices": None if self.slices is None else _plain_slices(self.slices),
            "slice_findings": self.slice_findings,
        }
        return seal(msgspec.msgpack.encode(header), key, Place("accuracy", model, self.version))

    def _test_numbers(self) -> dict[str, Any] | None:
        t = self.test
        if t is None:
            return None
        return {
            **t.numbers(),
            "_tolerance": t.tolerance,
            "_threshold": t.threshold,
            "_strictness": t.strictness,
        }

    @classmethod
    def from_bytes(cls, data: bytes, key: bytes, *, model: str, version: str) -> AccuracyState:
        """Read what ``to_bytes`` wrote for this model and version.

        Raises
        ------
        StateError
            If the bytes were not sealed for them under ``key``, are not an accuracy state, or of a
            newer format.
        """
        body = unseal(data, key, Place("accuracy", model, version))
        try:
            d = msgspec.msgpack.decode(body)
            if d["format"] > FORMAT:
                raise StateError(
                    f"a stored accuracy state has format {d['format']}, this program knows"
                    f" {FORMAT}: upgrade redistill"
                )
            memory = _memory_of(d["memory"])
            base = None if d["base"] is None else msgspec.convert(d["base"], BaseError)
            state = cls(
                version=version,
                n=d["n"],
                errors=d["errors"],
                uniform_n=d["uniform_n"],
                opened=d["opened"],
                finding=None if d["finding"] is None else msgspec.convert(d["finding"], DriftFound),
                base=base,
                share=d["share"],
                settled=d["settled"],
            )
            if d["test"] is None:
                state.learning = memory
            else:
                numbers = dict(d["test"])
                if base is None:
                    raise StateError("a stored accuracy state has a test without a base error")
                labels = numbers.pop("_threshold")
                if d["format"] < 3:  # it had the whole budget
                    labels /= alarm_budget.SHARES["whole model"]
                test = HarmTest(
                    base,
                    tolerance=numbers.pop("_tolerance"),
                    labels_per_alarm=labels,
                    strictness=numbers.pop("_strictness"),
                    share=state.share,
                )
                test.restore(numbers, memory)
                state.test = test
            if base is not None and (plain := d.get("slices")) is not None:  # format 2 had none
                state.slices = _slices_of(plain, base)
                state.slice_findings = msgspec.convert(d["slice_findings"], dict[int, DriftFound])
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError, zlib.error) as error:
            raise StateError(f"a stored accuracy state cannot be read: {error}") from error
        return state


def _plain_memory(memory: Memory) -> dict[str, Any]:
    return {
        "errors": np.packbits(np.array(memory.errors, np.uint8)).tobytes(),
        "n": len(memory.errors),
        "times": _pack_times(memory.times),
        "folded_errors": np.array(memory.folded_errors, np.uint8).tobytes(),
        "folded_times": _pack_times(memory.folded_times),
    }


def _memory_of(plain: dict[str, Any]) -> Memory:
    memory = Memory()
    bits = np.unpackbits(np.frombuffer(plain["errors"], np.uint8), count=plain["n"])
    memory.errors = bits.tolist()
    memory.times = _unpack_times(plain["times"])
    memory.folded_errors = np.frombuffer(plain["folded_errors"], np.uint8).tolist()
    memory.folded_times = _unpack_times(plain["folded_times"])
    return memory


_ARRAYS = {
    "powers": np.float64,
    "statistic": np.float64,
    "seen": np.int64,
    "wait": np.int64,
    "since": np.int64,
    "begin": np.int64,
}


def _plain_slices(tests: SliceTests) -> dict[str, Any]:
    return {
        "expected": tests.expected,
        "threshold": tests.threshold,
        "share": tests.share,
        "arrays": {name: getattr(tests, name).tobytes() for name in _ARRAYS},
        "memory": tests.memory.plain(),
        "open": {
            s: {
                "base": test.base,
                "numbers": test.numbers(),
                "memory": _plain_memory(test.memory),
                "expected": tests.levels[s],
                "localised": s not in tests.unlocalised,
            }
            for s, test in tests.open.items()
        },
    }


def _slices_of(plain: dict[str, Any], base: BaseError) -> SliceTests:
    expected = msgspec.convert(plain["expected"], ExpectedError)
    powers = np.frombuffer(plain["arrays"]["powers"]).reshape(len(expected.slices), -1)
    tests = SliceTests(
        expected,
        base,
        labels_per_alarm=plain["threshold"],
        share=plain["share"],
        powers=powers,
    )
    for name, kind in _ARRAYS.items():
        stored = np.frombuffer(plain["arrays"][name], kind)
        setattr(tests, name, stored.reshape(getattr(tests, name).shape).copy())
    tests.memory = SliceMemory.of(plain["memory"], len(expected.columns))
    for s, one in plain["open"].items():
        test = tests.watching(msgspec.convert(one["base"], BaseError))
        test.restore(one["numbers"], _memory_of(one["memory"]))
        tests.open[s], tests.levels[s] = test, one["expected"]
        if not one["localised"]:
            tests.unlocalised.add(s)
    return tests


def _pack_times(times: list[int]) -> bytes:
    return zlib.compress(np.diff(np.array(times, np.int64), prepend=0).tobytes(), 1)


def _unpack_times(data: bytes) -> list[int]:
    deltas = np.frombuffer(zlib.decompress(data), np.int64)
    return [int(t) for t in np.cumsum(deltas)]
