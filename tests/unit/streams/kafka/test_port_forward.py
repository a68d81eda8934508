"""A forward gives a server a port that stays."""

from __future__ import annotations

import itertools
import socket
import threading
from contextlib import suppress
from typing import Any

import pytest
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.errors import AddressError
from redistill.streams.kafka import port_forward as module
from redistill.streams.kafka.port_forward import PortForward


def echo(listening: socket.socket) -> None:
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        with client:
            while data := client.recv(1_024):
                client.sendall(data.upper())


def asked(address: str, text: bytes) -> bytes:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(text)
        return client.recv(1_024)


def test_bytes_go_there_and_back_until_it_is_stopped() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=echo, args=(listening,), daemon=True).start()
        forward = PortForward(0, f"127.0.0.1:{listening.getsockname()[1]}")
        assert asked(forward.address, b"one") == b"ONE"
        assert asked(forward.address, b"two") == b"TWO"
        eventually(lambda: not forward._open, "what has ended is forgotten")
        forward.stop()
        with pytest.raises(OSError):
            asked(forward.address, b"three")
        again = PortForward(int(forward.address.rpartition(":")[2]), "127.0.0.1:1")
        again.stop()


class Listening:
    """A listening socket that cannot take in its first connection."""

    def __init__(self, real: socket.socket) -> None:
        self.real = real
        self.failed = threading.Event()

    def accept(self) -> tuple[socket.socket, Any]:
        if not self.failed.is_set():
            self.failed.set()
            raise OSError(24, "Too many open files")
        return self.real.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def test_one_that_cannot_be_taken_in_keeps_nobody_else_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    made, start = socket.create_server, threading.Thread.start
    begun = itertools.count()
    refused: list[int] = []

    def none_left(thread: threading.Thread) -> None:
        # the first accepts; the second is of the first client, the fourth of the second's way back
        if thread.name == "forward" and (number := next(begun)) in (1, 3):
            refused.append(number)
            raise RuntimeError("can't start new thread")
        start(thread)

    with made(("127.0.0.1", 0)) as listening:
        threading.Thread(target=echo, args=(listening,), daemon=True).start()
        with monkeypatch.context() as context:
            context.setattr(socket, "create_server", lambda *a: Listening(made(*a)))
            context.setattr(threading.Thread, "start", none_left)
            forward = PortForward(0, f"127.0.0.1:{listening.getsockname()[1]}")
            for _ in range(2):
                with suppress(OSError):
                    assert asked(forward.address, b"lost") == b""
            assert asked(forward.address, b"kept") == b"KEPT"
        assert refused == [1, 3]
        eventually(lambda: not forward._open, "nothing is left of those that were lost")
        forward.stop()


def test_a_server_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, go_on = threading.Event(), threading.Event()
    connect = socket.create_connection

    def slow(*args: Any, **given: Any) -> socket.socket:
        if threading.current_thread().name == "forward" and not waits.is_set():
            waits.set()
            assert go_on.wait(PATIENCE_SECONDS)
        return connect(*args, **given)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=echo, args=(listening,), daemon=True).start()
        forward = PortForward(0, f"127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setattr(socket, "create_connection", slow)
        host, _, port = forward.address.rpartition(":")
        with connect((host, int(port)), timeout=PATIENCE_SECONDS) as first:
            assert waits.wait(PATIENCE_SECONDS)
            assert asked(forward.address, b"second") == b"SECOND"
            go_on.set()
            first.sendall(b"first")
            assert first.recv(1_024) == b"FIRST"
        forward.stop()


def test_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=f"127.0.0.1:{port}: .* in use; .*--broker-port"):
            PortForward(port, "127.0.0.1:1")
