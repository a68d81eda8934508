"""Pauses between tries of a server that does not let us in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from redistill.streams.engine.reconnects import AWAY_SECONDS, REFUSED_SECONDS, patiently


class Server:
    """What a connect meets, and how often."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.tries = 0
        self.now = 0.0
        self.connect = patiently(self._connect, clock=lambda: self.now)

    async def _connect(self, host: str, port: int, **options: Any) -> str:
        self.tries += 1
        if self.error is not None:
            raise self.error
        return f"{host}:{port} {options}"

    def over(self, seconds: int, host: str = "a") -> int:
        """Ask ten times a second for so long; how often the server was tried."""
        before = self.tries
        for _ in range(seconds * 10):
            self.now += 0.1
            if self.error is None:
                asyncio.run(self.connect(host, 1))
            else:
                with pytest.raises(type(self.error)):
                    asyncio.run(self.connect(host, 1))
        return self.tries - before


@pytest.mark.parametrize(
    ("error", "longest"),
    [
        (KafkaConnectionError("away"), AWAY_SECONDS),
        (AuthenticationFailedError("refused"), REFUSED_SECONDS),
    ],
)
def test_server_that_fails_is_tried_less_and_less(error: Exception, longest: float) -> None:
    server = Server()
    server.error = error
    server.over(100)
    assert 0.9 * 200 / longest - 1 <= server.over(200) <= 200 / longest + 1


def test_server_that_is_back_is_connected_and_all_is_forgotten() -> None:
    server = Server()
    server.error = OSError("away")
    server.over(30)
    server.error = None
    server.now += AWAY_SECONDS
    assert server.over(1) == 10
    assert asyncio.run(server.connect("a", 1, ssl=None)) == "a:1 {'ssl': None}"


def test_one_server_does_not_wait_for_another() -> None:
    server = Server()
    server.error = OSError("away")
    server.over(30)
    server.error = None
    assert server.over(1, host="b") == 10
