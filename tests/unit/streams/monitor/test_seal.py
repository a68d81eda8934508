"""Seal: a state opens at its place, whole, and under its key; nowhere and no other way."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.streams.errors import StateError
from redistill.streams.monitor.seal import Place, fingerprint, is_sealed, seal, unseal

KEY = b"k" * 32
PLACE = Place("input", "credit", "7", "topic", 3)


def test_no_byte_of_a_sealed_state_may_change_and_none_be_missing_or_more() -> None:
    data = seal(b"some bytes", KEY, PLACE)
    assert unseal(data, KEY, PLACE) == b"some bytes"
    for at in range(len(data)):
        for bit in (1, 0x80):
            changed = bytearray(data)
            changed[at] ^= bit
            with pytest.raises(StateError):
                unseal(bytes(changed), KEY, PLACE)
        with pytest.raises(StateError):
            unseal(data[:at], KEY, PLACE)
    with pytest.raises(StateError, match="not authentic"):
        unseal(data + b"\0", KEY, PLACE)


@pytest.mark.parametrize(
    "other",
    [
        Place("accuracy", "credit", "7", "topic", 3),
        Place("input", "debit", "7", "topic", 3),
        Place("input", "credit", "8", "topic", 3),
        Place("input", "credit", "7", "again", 3),
        Place("input", "credit", "7", "topic", 4),
        Place("input", "credit", "7", "topic"),
        Place("input", "credit", "7topic", "", 3),
    ],
    ids=str,
)
def test_state_of_another_place_does_not_open(other: Place) -> None:
    with pytest.raises(StateError, match="not authentic"):
        unseal(seal(b"bytes", KEY, PLACE), KEY, other)


texts = st.text(max_size=6)
places = st.builds(
    Place,
    st.sampled_from(["input", "accuracy"]),
    texts, texts, texts, st.none() | st.integers(0, 40),
)  # fmt: skip


@given(places, places, st.binary(max_size=8), st.binary(max_size=8))
def test_no_two_places_and_bytes_have_one_seal(a: Place, b: Place, x: bytes, y: bytes) -> None:
    mac = slice(6, 38)
    assert ((a, x) == (b, y)) == (seal(x, KEY, a)[mac] == seal(y, KEY, b)[mac])


def test_another_key_opens_nothing_and_neither_does_the_mac_of_another_purpose() -> None:
    with pytest.raises(StateError, match="another state key"):
        unseal(seal(b"bytes", KEY, PLACE), b"another", PLACE)
    rivers = hmac.new(KEY, b"redistill/river/" + b"bytes", hashlib.sha256).digest()
    with pytest.raises(StateError, match="not authentic"):
        unseal(seal(b"bytes", KEY, PLACE)[:6] + rivers + b"bytes", KEY, PLACE)


@pytest.mark.parametrize(
    "old", [b"", b"\x81\xa6format\x02", b"\xde\x00\x18", b"\xc1", b"\xc1seal\x02"]
)
def test_what_was_never_sealed_is_said_to_be_so(old: bytes) -> None:
    assert not is_sealed(old)
    with pytest.raises(
        StateError, match="the input state of credit 7 on partition 3 of topic is not sealed"
    ):
        unseal(old, KEY, PLACE)


def test_keys_are_told_apart_by_their_fingerprints() -> None:
    assert fingerprint(KEY) == fingerprint(bytes(KEY)) != fingerprint(KEY + b"\1")
    assert KEY.hex() not in fingerprint(KEY)


def test_names_that_are_no_unicode_have_a_seal_too() -> None:
    odd = Place("accuracy", "a\ud800", "1")
    assert unseal(seal(b"x", KEY, odd), KEY, odd) == b"x"
