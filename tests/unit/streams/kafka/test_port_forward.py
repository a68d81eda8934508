"""A forward gives a server a port that stays."""

from __future__ import annotations

import socket
import threading

import pytest
from waiting import eventually

from redistill.streams.errors import StreamsError
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


def test_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StreamsError, match=f"cannot listen on 127.0.0.1:{port}"):
            PortForward(port, "127.0.0.1:1")
