"""The anchor in the signed timestamp, as it is read back."""

from __future__ import annotations

from typing import Any

import pytest
from release_kit import Installation

from redistill.workers.releases import anchor
from redistill.workers.releases import keys as keyring
from redistill.workers.releases.anchor import Anchor
from redistill.workers.store import audit
from redistill.workers.store.audit import GENESIS


def test_anchor_is_read_only_where_one_of_our_keys_signed_it(shop: Installation) -> None:
    keys = keyring.load(shop.layout.keys, passphrase=None)
    found = anchor.published(shop.layout, keys.documents)
    with shop.database.read() as conn:
        assert found == anchor.Stamp(there=True, authentic=True, anchor=Anchor(*audit.head(conn)))
    path = shop.layout.metadata / "timestamp.json"
    good = path.read_bytes()
    for bad in (b"", b"{}", good.replace(b'"length":', b'"length":1'), good[:-9]):
        path.write_bytes(bad)
        assert anchor.published(shop.layout, keys.documents) == anchor.Stamp(there=True)
    path.unlink()
    assert anchor.published(shop.layout, keys.documents) == anchor.Stamp(there=False)


@pytest.mark.parametrize(
    "value", [None, [], {}, {"length": 1}, {"length": -1, "head": GENESIS},
              {"length": True, "head": GENESIS}, {"length": 1, "head": "x"}],
)  # fmt: skip
def test_what_is_no_anchor_is_none(value: Any) -> None:
    assert Anchor.of(value) is None
    whole = Anchor(3, "ab" * 32)
    assert Anchor.of(whole.to_json()) == whole
