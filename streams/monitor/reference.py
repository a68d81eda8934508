"""What is normal: built from reference rows, read and written as bytes."""

from __future__ import annotations

from dataclasses import dataclass

from streams.wire.block import PredictionBlock, Schema


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Profile:
    """What the rows of one model version look like when nothing is wrong."""

    schema: Schema
    rows: int
    provisional: bool = False

    def to_bytes(self) -> bytes:
        return b""

    @classmethod
    def from_bytes(cls, data: bytes) -> Profile:
        raise NotImplementedError


def build_profile(block: PredictionBlock, schema: Schema, *, provisional: bool = False) -> Profile:
    """Learn what is normal from reference rows in time order."""
    return Profile(schema=schema, rows=len(block), provisional=provisional)
