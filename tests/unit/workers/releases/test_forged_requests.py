"""Release requests that nobody made who may: the real repository writer obeys none."""

from __future__ import annotations

import pytest
from forged_rows import (
    HOUR,
    answer,
    ask,
    files,
    forge,
    restarted,
    serves,
    sql,
    tick,
    told,
)
from release_kit import Installation
from structlog.testing import capture_logs

from redistill.workers.releases import release_requests


@pytest.mark.parametrize("mac", ["''", f"'{'0' * 64}'", "(SELECT mac FROM audit WHERE seq = 3)"])
def test_forged_request_is_not_obeyed(shop: Installation, mac: str) -> None:
    before = files(shop)
    forge(shop, mac)
    with capture_logs() as lines:
        tick(shop)
    assert not answer(shop, "forged").ok
    assert [x["action"] for x in lines if x["log_level"] == "error"] == ["request_refused"]
    assert files(shop) == before
    said = told(shop)
    assert said is not None
    assert "row forged of intents" in said.why
    assert said.until is not None  # a day long
    tick(shop)
    assert told(shop) == said
    tick(shop, 25 * HOUR)
    assert told(shop) is None, "told for a day"


def test_request_of_somebody_with_the_key_cannot_be_changed(shop: Installation) -> None:
    before = files(shop)
    request_id = ask(shop)
    sql(shop, """UPDATE intents SET body = '{"version":"v2"}' WHERE done_at IS NULL""")
    tick(shop)
    assert not answer(shop, request_id).ok
    assert files(shop) == before


def test_request_that_was_done_cannot_be_put_back(shop: Installation) -> None:
    request_id = ask(shop)
    tick(shop)
    assert serves(shop) == "v3"
    shop.rollback("credit")
    assert serves(shop) == "v1"
    sql(shop, f"UPDATE intents SET done_at = NULL WHERE intent_id = '{request_id}'")
    for writer in (shop, restarted(shop)):
        tick(writer)
        assert serves(shop) == "v1"
    assert "was done before" in answer(shop, request_id).message


def test_request_that_was_withdrawn_is_not_done_hours_later(shop: Installation) -> None:
    request_id = ask(shop)
    with shop.database.begin() as conn:
        withdrawn = release_requests.RequestResult(ok=False, message="withdrawn")
        release_requests.finish(conn, request_id, withdrawn, now=shop.now)
    sql(shop, f"UPDATE intents SET done_at = NULL WHERE intent_id = '{request_id}'")
    tick(shop, 2 * HOUR)
    assert serves(shop) == "v1"
    assert "over an hour old" in answer(shop, request_id).message
