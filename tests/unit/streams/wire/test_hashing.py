"""Hashes of ids: SipHash as its paper has it, uniform, and kept whole in SQL."""

from __future__ import annotations

import math
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.streams.wire.hashing import id_hashes, signed
from redistill.streams.wire.ids import Ids


def siphash(text: bytes, k0: int, k1: int) -> int:
    """SipHash-2-4 as its paper states it, a word at a time."""
    v = [
        0x736F6D6570736575 ^ k0,
        0x646F72616E646F6D ^ k1,
        0x6C7967656E657261 ^ k0,
        0x7465646279746573 ^ k1,
    ]

    def turn(x: int, bits: int) -> int:
        return (x << bits | x >> (64 - bits)) % 2**64

    def rounds(times: int) -> None:
        for _ in range(times):
            for a, b, bits in ((0, 1, 13), (2, 3, 16), (0, 3, 21), (2, 1, 17)):
                v[a] = (v[a] + v[b]) % 2**64
                v[b] = turn(v[b], bits) ^ v[a]
                if (a, b) in ((0, 1), (2, 1)):
                    v[a] = turn(v[a], 32)

    whole = len(text) // 8 * 8
    last = text[whole:].ljust(7, b"\0") + bytes([len(text) % 256])
    for part in [*(text[i : i + 8] for i in range(0, whole, 8)), last]:
        word = int.from_bytes(part, "little")
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


@pytest.mark.parametrize(
    ("size", "want"),
    [(0, 0x726FDB47DD0E0E31), (7, 0xAB0200F58B01D137), (15, 0xA129CA6149BE45E5), (63, 0x958A324CEB064572)],
)  # fmt: skip
def test_the_reference_is_that_of_the_paper(size: int, want: int) -> None:
    k0, k1 = (int.from_bytes(bytes(range(i, i + 8)), "little") for i in (0, 8))
    assert siphash(bytes(range(size)), k0, k1) == want


@given(st.lists(st.text(max_size=200), max_size=30))
def test_id_hashes_are_those_of_siphash(ids: list[str]) -> None:
    ids = [i.encode("utf-8", "ignore").decode() for i in ids]
    key = blake2b(b"salt", digest_size=16).digest()
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    want = [siphash(i.encode(), k0, k1) for i in ids]
    assert id_hashes(ids, b"salt").tolist() == want
    column = Ids.of(["first", *ids, "last"])[1:-1]
    assert id_hashes(column, b"salt").tolist() == want
    assert id_hashes([], b"salt").shape == (0,)


def test_id_hashes_sample_uniformly_and_depend_on_the_salt() -> None:
    ids = [f"request-{i}" for i in range(20_000)]
    one, two = id_hashes(ids, b"one"), id_hashes(ids, b"two")
    for hashes in (one, two):
        assert abs((hashes < 2.0**61).mean() - 0.125) < 4 * math.sqrt(0.125 * 0.875 / 20_000)
    both = ((one < 2.0**63) & (two < 2.0**63)).mean()
    assert abs(both - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 20_000)


def test_signed_keeps_all_64_bits() -> None:
    hashes = np.array([0, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)
    assert signed(hashes).tolist() == [0, 2**63 - 1, -(2**63), -1]
    assert signed(hashes).view(np.uint64).tolist() == hashes.tolist()
