"""The first steps of Kafka's protocol against made-up brokers: which step failed is named."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ports import free_port

from redistill.streams.errors import BrokerRefused, BrokerUnavailable, StreamsError
from redistill.streams.kafka.handshake import Login, probe

METADATA, HANDSHAKE, API_VERSIONS, AUTHENTICATE = 3, 17, 18, 36
Answers = dict[int, Callable[[bytes], bytes | None]]


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">h", len(raw)) + raw


def token(data: bytes) -> bytes:
    """A token that was accepted, with the broker's answer."""
    return struct.pack(">hh", 0, -1) + struct.pack(">i", len(data)) + data


def refused(message: str | None) -> bytes:
    said = struct.pack(">h", -1) if message is None else text(message)
    return struct.pack(">h", 58) + said + struct.pack(">i", 0)


class FakeBroker:
    """Answers each request by its kind; ``None`` closes the connection."""

    def __init__(self, answers: Answers) -> None:
        self.answers = {API_VERSIONS: lambda body: b"\0\0"} | answers
        self.asked: list[int] = []
        self.raw: bytes | None = None
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client:
                try:
                    self._serve(client)
                except OSError:
                    continue

    def _serve(self, client: socket.socket) -> None:
        if self.raw is not None:
            client.recv(4_096)
            client.sendall(self.raw)
            return
        while head := client.recv(4, socket.MSG_WAITALL):
            request = client.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)
            api, _, correlation, size = struct.unpack_from(">hhih", request)
            self.asked.append(api)
            answer = self.answers.get(api, lambda body: None)(request[10 + size :])
            if answer is None:
                return
            client.sendall(struct.pack(">ii", len(answer) + 4, correlation) + answer)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeBroker]]:
    made: list[FakeBroker] = []

    def make(**answers: Callable[[bytes], bytes | None]) -> FakeBroker:
        numbers = {"metadata": METADATA, "handshake": HANDSHAKE, "authenticate": AUTHENTICATE,
                   "api_versions": API_VERSIONS}  # fmt: skip
        made.append(FakeBroker({numbers[name]: answer for name, answer in answers.items()}))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


def login(protocol: str = "PLAINTEXT", mechanism: str = "PLAIN", **more: Any) -> Login:
    values: dict[str, Any] = {"username": "svc", "password": "right", "context": None} | more
    return Login(protocol=protocol, mechanism=mechanism, **values)


def ask(broker: FakeBroker, how: Login) -> StreamsError | None:
    return probe("127.0.0.1", broker.port, how, timeout=30)


# --- plain text ---------------------------------------------------------------------------------


def test_plain_listener_lets_in(serve: Callable[..., FakeBroker]) -> None:
    broker = serve(metadata=lambda body: b"\0\0\0\0")
    assert ask(broker, login()) is None
    assert broker.asked == [API_VERSIONS, METADATA]


def test_listener_that_wants_credentials_says_which_protocol(
    serve: Callable[..., FakeBroker],
) -> None:
    why = ask(serve(), login())
    assert isinstance(why, BrokerRefused)
    assert "wants credentials: use protocol SASL_PLAINTEXT" in str(why)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "it speaks TLS: use protocol SSL or SASL_SSL"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not Kafka"),
        (struct.pack(">i", 2), "not Kafka"),
        (b"", "closed the connection"),
    ],
)
def test_what_is_no_kafka_is_told(serve: Callable[..., FakeBroker], raw: bytes, words: str) -> None:
    broker = serve()
    broker.raw = raw
    why = ask(broker, login())
    assert isinstance(why, BrokerRefused)
    assert "does not answer as a PLAINTEXT listener" in str(why)
    assert words in str(why)


@pytest.mark.parametrize("raw", [b"", struct.pack(">i", 4) + b"what"])
def test_tls_to_a_plain_listener_is_told(serve: Callable[..., FakeBroker], raw: bytes) -> None:
    broker = serve()
    broker.raw = raw
    why = ask(broker, login("SSL", context=ssl.create_default_context()))
    assert isinstance(why, BrokerRefused)
    assert "is that listener plain text" in str(why)


# --- nobody there -------------------------------------------------------------------------------


def test_nobody_listening_is_unavailable() -> None:
    why = probe("127.0.0.1", free_port(), login(), timeout=30)
    assert isinstance(why, BrokerUnavailable)
    assert "is the broker running, and is this its address?" in str(why)


def test_silent_server_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        why = probe("127.0.0.1", silent.getsockname()[1], login(), timeout=0.05)
    assert isinstance(why, BrokerUnavailable)
    assert "does not answer" in str(why)


def test_unknown_name_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    why = probe("no-such-host", 9092, login(), timeout=1)
    assert isinstance(why, BrokerUnavailable)
    assert "'no-such-host' cannot be resolved (Name or service not known)" in str(why)


# --- SASL ---------------------------------------------------------------------------------------


def accepts(body: bytes) -> bytes:
    return struct.pack(">hi", 0, 0)


def test_plain_credentials_are_sent_as_rfc_4616_has_them(serve: Callable[..., FakeBroker]) -> None:
    tokens = []

    def authenticate(body: bytes) -> bytes:
        tokens.append(body[4:])
        return token(b"")

    broker = serve(handshake=accepts, authenticate=authenticate)
    assert ask(broker, login("SASL_PLAINTEXT")) is None
    assert tokens == [b"\0svc\0right"]


@pytest.mark.parametrize(
    ("message", "words"), [("Invalid username or password", "Invalid username"), (None, "authentication failed")]
)  # fmt: skip
def test_refused_credentials_name_the_user_and_not_the_password(
    serve: Callable[..., FakeBroker], message: str | None, words: str
) -> None:
    broker = serve(handshake=accepts, authenticate=lambda body: refused(message))
    why = ask(broker, login("SASL_PLAINTEXT", password="hunter2"))
    assert isinstance(why, BrokerRefused)
    assert "refuses the credentials of user 'svc' (PLAIN)" in str(why)
    assert words in str(why)
    assert "hunter2" not in str(why)


def test_mechanism_that_is_not_offered_is_told_with_those_that_are(
    serve: Callable[..., FakeBroker],
) -> None:
    offered = struct.pack(">hi", 33, 2) + text("GSSAPI") + text("PLAIN")
    why = ask(serve(handshake=lambda body: offered), login("SASL_PLAINTEXT", "SCRAM-SHA-512"))
    assert isinstance(why, BrokerRefused)
    assert "does not accept mechanism SCRAM-SHA-512: it offers GSSAPI, PLAIN" in str(why)


def test_listener_without_credentials_is_told(serve: Callable[..., FakeBroker]) -> None:
    why = ask(serve(), login("SASL_PLAINTEXT"))
    assert "asks for no credentials: use protocol PLAINTEXT or SSL" in str(why)
    odd = serve(handshake=lambda body: struct.pack(">hi", 34, 0))
    why = ask(odd, login("SASL_PLAINTEXT"))
    assert "answers error 34; does that listener ask for no credentials?" in str(why)


class ScramServer:
    """The broker's half of RFC 5802, for one user."""

    def __init__(self, algorithm: str, user: str, password: str) -> None:
        self.algorithm, self.user = algorithm, user
        self.salt, self.rounds = b"salt", 4_096
        self.salted = hashlib.pbkdf2_hmac(algorithm, password.encode(), self.salt, self.rounds)
        self.first = ""

    def __call__(self, body: bytes) -> bytes:
        message = body[4:].decode()
        if message.startswith("n,,"):
            self.client = message[3:]
            name, nonce = (p.split("=", 1)[1] for p in self.client.split(","))
            assert name == self.user
            salt = base64.b64encode(self.salt).decode()
            self.first = f"r={nonce}server,s={salt},i={self.rounds}"
            return token(self.first.encode())
        final, _, proof = message.rpartition(",p=")
        key = hmac.digest(self.salted, b"Client Key", self.algorithm)
        signed = f"{self.client},{self.first},{final}".encode()
        stored = hashlib.new(self.algorithm, key).digest()
        signature = hmac.digest(stored, signed, self.algorithm)
        wanted = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        return token(b"v=x") if base64.b64decode(proof) == wanted else refused("no")


@pytest.mark.parametrize(
    ("mechanism", "algorithm"), [("SCRAM-SHA-256", "sha256"), ("SCRAM-SHA-512", "sha512")]
)
def test_scram_proves_the_password_without_telling_it(
    serve: Callable[..., FakeBroker], mechanism: str, algorithm: str
) -> None:
    for password, let_in in (("right", True), ("wrong", False)):
        server = ScramServer(algorithm, "a=3Db=2Cc", password)
        broker = serve(handshake=accepts, authenticate=server)
        why = ask(broker, login("SASL_PLAINTEXT", mechanism, username="a=b,c"))
        assert (why is None) is let_in


def test_scram_answer_that_makes_no_sense_is_a_refusal(serve: Callable[..., FakeBroker]) -> None:
    broker = serve(handshake=accepts, authenticate=lambda body: token(b"hello"))
    why = ask(broker, login("SASL_PLAINTEXT", "SCRAM-SHA-256"))
    assert isinstance(why, BrokerRefused)
    assert "unexpected answer 'hello'" in str(why)


def test_connection_that_breaks_in_the_middle_of_credentials_is_a_refusal(
    serve: Callable[..., FakeBroker],
) -> None:
    broker = serve(handshake=accepts, authenticate=lambda body: None)
    assert "it closed the connection" in str(ask(broker, login("SASL_PLAINTEXT")))
