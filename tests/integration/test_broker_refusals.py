"""A real broker with plain, SASL and TLS listeners: what it refuses is explained."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kafka_server as kafka
import pytest
from ports import free_port

from redistill.streams.errors import BrokerRefused, BrokerUnavailable
from redistill.streams.kafka.broker import (
    Broker,
    Security,
    admin,
    cause,
    consumer,
    explain,
    producer,
)

pytestmark = pytest.mark.kafka

JAAS = 'org.apache.kafka.common.security.scram.ScramLoginModule required username="a" password="b";'
PLAIN_JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="svc" password="right" user_svc="right";'
)


@dataclass
class Secured:
    """Addresses of the listeners and the CA that signed the broker's certificate."""

    server: kafka.KafkaServer
    sasl: str
    tls: str
    ca: Path


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, by the JDK's own tool: (PEM of the CA, keystore)."""
    store, ca = folder / "broker.p12", folder / "ca.pem"
    access = ["-keystore", str(store), "-storepass", "changeit", "-alias", "broker"]
    subprocess.run(
        ["keytool", "-genkeypair", *access, "-storetype", "PKCS12", "-keyalg", "EC",
         "-dname", "CN=localhost", "-ext", "SAN=dns:localhost", "-ext", "bc:c", "-validity", "2"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    subprocess.run(
        ["keytool", "-exportcert", "-rfc", *access, "-file", str(ca)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return ca, store


@pytest.fixture(scope="module")
def secured(
    kafka_server: kafka.KafkaServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    ca, keystore = _certificate(folder)
    plain, control, sasl, tls = (free_port() for _ in range(4))
    listeners = f"PLAINTEXT://127.0.0.1:{plain},LOGIN://127.0.0.1:{sasl},TLS://localhost:{tls}"
    server = kafka.KafkaServer(
        folder / "broker",
        port=plain,
        controller_port=control,
        scram={"svc": "right"},
        extra={
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{control}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT,TLS:SASL_SSL"
            ),
            "sasl.enabled.mechanisms": "SCRAM-SHA-256,PLAIN",
            "listener.name.login.scram-sha-256.sasl.jaas.config": JAAS,
            "listener.name.login.plain.sasl.jaas.config": PLAIN_JAAS,
            "listener.name.tls.scram-sha-256.sasl.jaas.config": JAAS,
            "listener.name.tls.plain.sasl.jaas.config": PLAIN_JAAS,
            "listener.name.tls.ssl.keystore.type": "PKCS12",
            "listener.name.tls.ssl.keystore.location": str(keystore),
            "listener.name.tls.ssl.keystore.password": "changeit",
            "listener.name.tls.ssl.key.password": "changeit",
        },
    )
    server.start()
    yield Secured(server, f"127.0.0.1:{sasl}", f"localhost:{tls}", ca)
    server.stop()


def _login(secured: Secured, **over: object) -> Broker:
    fields = {"protocol": "SASL_PLAINTEXT", "username": "svc", "password": "right"} | over
    return Broker(secured.sasl, Security(**fields))  # type: ignore[arg-type]


def _tls(secured: Secured, **over: object) -> Broker:
    fields = {"username": "svc", "password": "right", "ca": str(secured.ca)} | over
    return Broker(secured.tls, Security(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
def test_right_credentials_are_let_in(secured: Secured, mechanism: str) -> None:
    for broker in (_login(secured, mechanism=mechanism), _tls(secured, mechanism=mechanism)):
        assert "answers now" in explain(RuntimeError("earlier"), broker)
        client = admin(broker)
        assert client.list_topics() == []
        client.close()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
def test_bad_password_is_named_by_every_client(secured: Secured, mechanism: str) -> None:
    broker = _login(secured, mechanism=mechanism, password="wrong")
    for make in (producer, consumer, admin):
        with pytest.raises(BrokerRefused, match="refuses the credentials of user 'svc'") as caught:
            make(broker)
        assert "wrong" not in str(caught.value)


def test_mechanism_that_is_not_offered_is_named(secured: Secured) -> None:
    why = explain(RuntimeError(), _login(secured, mechanism="SCRAM-SHA-512"))
    assert "does not accept mechanism SCRAM-SHA-512: it offers" in why
    assert "SCRAM-SHA-256" in why


def test_missing_credentials_are_asked_for(secured: Secured) -> None:
    why = cause(RuntimeError(), Broker(secured.sasl))
    assert isinstance(why, BrokerRefused)
    assert "SASL_PLAINTEXT" in str(why)


def test_needless_credentials_are_named(secured: Secured) -> None:
    plain = Broker(secured.server.bootstrap, _login(secured).security)
    why = cause(RuntimeError(), plain)
    assert isinstance(why, BrokerRefused)
    assert "credentials" in str(why)


def test_untrusted_certificate_is_named(secured: Secured) -> None:
    why = cause(RuntimeError(), _tls(secured, ca=None))
    assert isinstance(why, BrokerRefused)
    assert "is not trusted" in str(why)


def test_certificate_of_another_host_is_named(secured: Secured) -> None:
    other = Broker(secured.tls.replace("localhost", "127.0.0.1"), _tls(secured).security)
    assert "is not trusted" in explain(RuntimeError(), other)


def test_tls_to_a_plain_listener_is_named(secured: Secured) -> None:
    broker = Broker(secured.sasl, _tls(secured).security)
    assert "is that listener plain text" in explain(RuntimeError(), broker)


def test_plain_text_to_a_tls_listener_is_named(secured: Secured) -> None:
    why = cause(RuntimeError(), Broker(secured.tls))
    assert isinstance(why, BrokerRefused)
    assert "SASL_SSL" in str(why)


def test_ca_file_that_is_missing_is_named(secured: Secured) -> None:
    assert "/nowhere.pem" in explain(RuntimeError(), _tls(secured, ca="/nowhere.pem"))


def test_nobody_listening_is_unavailable() -> None:
    why = cause(RuntimeError(), Broker(f"127.0.0.1:{free_port()}"))
    assert isinstance(why, BrokerUnavailable)
    assert why.retriable
    assert "is the broker running" in str(why)


def test_unknown_host_is_unavailable() -> None:
    assert "cannot be resolved" in explain(RuntimeError(), Broker("no-such-host.invalid:9092"))


def test_server_that_never_answers_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = Broker(f"127.0.0.1:{silent.getsockname()[1]}")
        assert "does not answer" in explain(RuntimeError(), broker, timeout=0.2)


@pytest.mark.parametrize("servers", ["kafka", "kafka:port", ""])
def test_malformed_servers_are_refused(servers: str) -> None:
    assert "host:port" in explain(RuntimeError(), Broker(servers))
