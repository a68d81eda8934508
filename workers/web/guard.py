"""Guard: what a request must be before the application sees it.

Health is for everybody; all else needs the token where there is one. A peer that guesses is told
less and less, whoever downloads more than its share is asked to come again, and what no client of
ours sends (bodies, several ranges, other forms of an address) ends here.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redistill.workers.web.connection import place_of
from redistill.workers.web.limits import Limits
from redistill.workers.web.places import peer_of

__all__ = ["Denials", "Guard", "problem"]

log = structlog.get_logger(__name__)

AREAS = frozenset({"metadata", "targets", "health", "metrics"})
MINUTE = 60.0
PEERS_KEPT = 4_096
"""Peers whose wrong tokens are counted; those that were seen last stay."""


def problem(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error as every answer tells it."""
    body = {"error": {"code": code, "message": message}}
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))


class Denials:
    """Wrong tokens by peer, in the last minute or so.

    Examples
    --------
    >>> seconds = iter([0.0, 1.0, 2.0, 62.0])
    >>> denials = Denials(clock=lambda: next(seconds))
    >>> [denials.count("10.0.0.1") for _ in range(4)]
    [1, 2, 3, 1]
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._peers: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, peer: str) -> int:
        """Count one more; how many there are."""
        now = self._clock()
        began, count = self._peers.pop(peer, (now, 0))
        if now - began >= MINUTE:
            began, count = now, 0
        self._peers[peer] = began, count + 1
        if len(self._peers) > PEERS_KEPT:
            self._peers.popitem(last=False)
        return count + 1


class Guard:
    """An ASGI application around another.

    Parameters
    ----------
    app
        Sees requests that are in order only.
    token
        What clients must show; ``None``: nothing.
    limits
        Of downloads and of wrong tokens.
    answered
        Called with the area and status of each answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        limits: Limits,
        answered: Callable[[str, int], object],
    ) -> None:
        self._app = app
        self._token = None if token is None else hashlib.sha256(token.encode()).digest()
        self._limits = limits
        self._answered = answered
        self._denials = Denials()
        self._downloads: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application do it."""
        if scope["type"] != "http":
            return
        _straighten(scope)
        area = scope["path"].strip("/").partition("/")[0]
        known = area if area in AREAS else "other"

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._answered(known, message["status"])
                message = {
                    **message,
                    "headers": [*message["headers"], (b"x-content-type-options", b"nosniff")],
                }
            await send(message)

        refused = self._refusal(scope, area)
        if refused is not None:
            await refused(scope, receive, told)
        elif area == "targets":
            await self._download(scope, receive, told)
        else:
            await self._app(scope, receive, told)

    def _refusal(self, scope: Scope, area: str) -> Response | None:
        headers = {key: value for key, value in scope["headers"] if key in _LOOKED_AT}
        if area != "health":
            if self._token is not None and not self._authorized(headers):
                return self._denied(_peer(scope))
            if (place := place_of(scope)) is not None:
                place.known = True
        body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0").strip(b"0")
        if body and scope["method"] in ("GET", "HEAD"):  # other methods are refused anyway
            return problem(413, "body_not_allowed", "nothing here takes a body")
        return None

    def _authorized(self, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        # compared as hashes: neither the token's length nor a common start can be measured
        digest = hashlib.sha256(given.strip()).digest()
        return hmac.compare_digest(digest, self._token or b"") and scheme.lower() == b"bearer"

    def _denied(self, peer: str) -> Response:
        number = self._denials.count(peer)
        if number <= self._limits.denials_per_minute:
            challenge = {"WWW-Authenticate": "Bearer"}
            return problem(401, "unauthorized", "a bearer token is needed", challenge)
        if number == self._limits.denials_per_minute + 1:
            log.warning("web_denied", action="web_denied", peer=peer, tokens=number)
        return problem(
            429,
            "too_many_wrong_tokens",
            "too many requests without the right bearer token; ask again in a minute",
            {"WWW-Authenticate": "Bearer", "Retry-After": "60", "Connection": "close"},
        )

    async def _download(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = _peer(scope)
        if (
            self._downloads[peer] >= self._limits.downloads_per_peer
            or self._downloads.total() >= self._limits.downloads
        ):
            if not self._downloads[peer]:
                del self._downloads[peer]
            busy = problem(
                503, "too_many_downloads", "too many downloads at once", {"Retry-After": "2"}
            )
            await busy(scope, receive, send)
            return
        self._downloads[peer] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._downloads[peer] -= 1
            if not self._downloads[peer]:
                del self._downloads[peer]


_LOOKED_AT = frozenset({b"authorization", b"content-length", b"transfer-encoding"})


def _peer(scope: Scope) -> str:
    client: Any = scope.get("client")
    return peer_of(str(client[0])) if client else "local"


def _straighten(scope: Scope) -> None:
    """Read the absolute form of an address, which a proxy may send, as any other; ask for one range
    of a file or for the whole of it, since a list of ranges costs more than it is long."""
    path = scope["path"]
    if path.startswith(("http://", "https://")):
        try:
            scope["path"] = urlsplit(path).path or "/"
        except ValueError:
            scope["path"] = "/"
    scope["headers"] = [
        (key, value) for key, value in scope["headers"] if key != b"range" or b"," not in value
    ]
