"""What a request must be before the application sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from redistill.workers.web.guard import PEERS_KEPT, Denials, Guard
from redistill.workers.web.limits import Limits

TOKEN = "t" * 32
RIGHT = (b"authorization", b"bearer " + TOKEN.encode())
Headers = list[tuple[bytes, bytes]]


class Asked:
    """An application that notes what it saw, and waits where it is told to."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.may = asyncio.Event()
        self.may.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await self.may.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def app() -> Asked:
    return Asked()


@pytest.fixture
def counted() -> list[tuple[str, int]]:
    return []


Ask = Callable[..., Any]


@pytest.fixture
def ask(app: Asked, counted: list[tuple[str, int]]) -> Ask:
    limits = Limits(downloads=3, downloads_per_peer=2, denials_per_minute=2)
    guards: dict[str | None, Guard] = {}

    async def ask(
        path: str, headers: Headers | None = None, *, token: str | None = TOKEN,
        method: str = "GET", peer: str = "10.0.0.1",
    ) -> int:  # fmt: skip
        if token not in guards:
            guards[token] = Guard(
                app, token=token, limits=limits, answered=lambda *what: counted.append(what)
            )
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": method, "path": path, "headers": headers or [],
            "client": (peer, 1),
        }  # fmt: skip
        await guards[token](scope, lambda: None, send)  # type: ignore[arg-type]
        assert (b"x-content-type-options", b"nosniff") in sent[0]["headers"]
        return int(sent[0]["status"])

    return ask


@pytest.mark.parametrize(
    ("path", "area"),
    [("/metadata/x", "metadata"), ("//metrics", "metrics"), ("/", "other"), ("/keys/x", "other")],
)
def test_all_but_health_needs_the_token(
    ask: Ask, counted: list[tuple[str, int]], path: str, area: str
) -> None:
    assert asyncio.run(ask(path)) == 401
    assert asyncio.run(ask(path, [RIGHT])) == 200
    assert asyncio.run(ask(path, token=None)) == 200
    assert counted == [(area, 401), (area, 200), (area, 200)]


@pytest.mark.parametrize("value", [b"", b"bearer", b"basic " + TOKEN.encode(), b"bearer \xff\xfe"])
def test_what_is_no_token_opens_nothing(ask: Ask, value: bytes) -> None:
    assert asyncio.run(ask("/metrics", [(b"authorization", value)])) == 401


def test_health_is_told_to_everybody(ask: Ask) -> None:
    assert asyncio.run(ask("/health/live")) == 200


def test_who_guesses_is_told_less_and_the_token_is_taken_even_then(ask: Ask) -> None:
    assert [asyncio.run(ask("/metrics")) for _ in range(4)] == [401, 401, 429, 429]
    assert asyncio.run(ask("/metrics", [RIGHT])) == 200
    assert asyncio.run(ask("/metrics", peer="10.0.0.2")) == 401
    assert asyncio.run(ask("/metrics", peer="::ffff:10.0.0.1")) == 429  # the same in other words


def test_guesses_are_counted_for_a_bounded_number_of_peers() -> None:
    denials = Denials(clock=lambda: 0.0)
    for number in range(PEERS_KEPT + 10):
        denials.count(str(number))
    assert denials.count(str(PEERS_KEPT)) == 2
    assert denials.count("0") == 1  # forgotten
    assert len(denials._peers) == PEERS_KEPT


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ((b"content-length", b"0"), 200),
        ((b"content-length", b"00"), 200),
        ((b"content-length", b"10"), 413),
        ((b"transfer-encoding", b"chunked"), 413),
    ],
)
def test_bodies_are_refused(ask: Ask, header: tuple[bytes, bytes], status: int) -> None:
    assert asyncio.run(ask("/health/live", [header])) == status
    assert asyncio.run(ask("/health/live", [header], method="PUT")) == 200  # the application's 405


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("http://host/metrics", "/metrics"),
        ("https://host:1/metrics", "/metrics"),
        ("http://host", "/"),
        ("http://[host/metrics", "/"),
    ],
)
def test_absolute_forms_are_read_and_need_the_token_as_any_other(
    ask: Ask, app: Asked, path: str, seen: str
) -> None:
    assert asyncio.run(ask(path)) == 401
    assert asyncio.run(ask(path, [RIGHT])) == 200
    assert app.scopes[-1]["path"] == seen


def test_one_range_is_passed_on_and_a_list_of_them_is_not(ask: Ask, app: Asked) -> None:
    asyncio.run(ask("/targets/x", [RIGHT, (b"range", b"bytes=0-1")]))
    asyncio.run(ask("/targets/x", [RIGHT, (b"range", b"bytes=0-1,3-4")]))
    assert [(b"range", b"bytes=0-1") in s["headers"] for s in app.scopes] == [True, False]
    assert len(app.scopes[1]["headers"]) == 1


def test_downloads_are_shared_out(ask: Ask, app: Asked) -> None:
    async def many() -> list[int]:
        app.may.clear()
        held = [
            asyncio.ensure_future(ask("/targets/x", [RIGHT], peer=peer))
            for peer in ("10.0.0.1", "10.0.0.1", "10.0.0.2")
        ]
        await asyncio.sleep(0.01)
        out = [await ask("/targets/x", [RIGHT], peer=f"10.0.0.{n}") for n in (1, 2, 3)]
        app.may.set()
        out += await asyncio.gather(*held)
        return [*out, await ask("/targets/x", [RIGHT])]

    assert asyncio.run(many()) == [503, 503, 503, 200, 200, 200, 200]
