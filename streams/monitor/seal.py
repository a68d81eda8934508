"""Seal of a stored state: an HMAC over its bytes and over the place for which they were written, so
that nothing in it is decoded before it is known to be ours and at home there. Pure.

A blob that was changed, or moved to another model, version or partition, does not open. One that
stood at the same place before does: an older row put back is like a restored backup, and no code
over the bytes alone can tell (see the decisions).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal, NamedTuple

from redistill.streams.errors import StateError

__all__ = ["Place", "fingerprint", "is_sealed", "seal", "unseal"]

MAGIC = b"\xc1seal\x01"
"""Begins a sealed state. MessagePack, of which the older ones are, never begins with C1."""
MAC_BYTES = 32
LABEL = b"redistill/state"
"""What the MAC is for: the same key signs nothing else under it."""
FINGERPRINT = b"redistill/state-key"


class Place(NamedTuple):
    """Where a state is stored: the kind of it, and the key of its row."""

    kind: Literal["input", "accuracy"]
    model: str
    version: str
    topic_id: str = ""
    """Empty, like ``partition``, for what belongs to no partition."""
    partition: int | None = None

    def __str__(self) -> str:
        at = "" if self.partition is None else f" on partition {self.partition} of {self.topic_id}"
        return f"{self.kind} state of {self.model} {self.version}{at}"


def seal(body: bytes, key: bytes, place: Place) -> bytes:
    """Bind bytes to a place (6 µs for 5 kB)."""
    return MAGIC + _mac(body, key, place) + body


def is_sealed(data: bytes) -> bool:
    """Whether bytes claim to be sealed; ``unseal`` tells whether that is true."""
    return data.startswith(MAGIC)


def unseal(data: bytes, key: bytes, place: Place) -> bytes:
    """What was sealed for this place.

    Raises
    ------
    StateError
        It was not sealed, not for this place, not under this key, or was changed since.

    Examples
    --------
    >>> here, there = Place("accuracy", "credit", "7"), Place("accuracy", "credit", "8")
    >>> unseal(seal(b"bytes", b"key", here), b"key", here)
    b'bytes'
    >>> unseal(seal(b"bytes", b"key", here), b"key", there)
    Traceback (most recent call last):
    redistill.streams.errors.StateError: the accuracy state of credit 8 is not authentic: ...
    """
    if not is_sealed(data):
        raise StateError(
            f"the {place} is not sealed: it was not written by this redistill; stop workers of"
            " older ones"
        )
    mac, body = data[len(MAGIC) : len(MAGIC) + MAC_BYTES], data[len(MAGIC) + MAC_BYTES :]
    if not hmac.compare_digest(mac, _mac(body, key, place)):
        raise StateError(
            f"the {place} is not authentic: it was changed, written for another model, version or"
            " partition, or sealed under another state key"
        )
    return body


def fingerprint(key: bytes) -> str:
    """Tells keys apart without giving one away.

    Examples
    --------
    >>> len(fingerprint(b"key"))
    32
    """
    return hmac.new(key, FINGERPRINT, hashlib.sha256).hexdigest()[:32]


def _mac(body: bytes, key: bytes, place: Place) -> bytes:
    """HMAC-SHA256 over every part with its length before it: no two places read the same."""
    at = "" if place.partition is None else str(place.partition)
    names = (place.kind, place.model, place.version, place.topic_id, at)
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in (LABEL, *(name.encode("utf-8", "surrogatepass") for name in names), body):
        mac.update(len(part).to_bytes(8, "big"))
        mac.update(part)
    return mac.digest()
