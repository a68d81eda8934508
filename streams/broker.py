"""How to reach the broker: one frozen value, and what the Kafka clients want to hear of it.

``servers`` is ``host:port[,host:port]``, or ``dev://host:port?start=UUID`` for the in-memory dev broker, whose topics
have no ids of their own: theirs are uuid5 of the broker's start and the topic's name.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from streams.wire.events import topic_name

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Security:
    """Credentials and trust for a broker. The password never appears in ``repr``."""

    protocol: Protocol = "SASL_SSL"
    mechanism: Mechanism = "SCRAM-SHA-256"
    username: str | None = None
    password: str | None = None
    ca: str | None = None
    """Path of the CA certificates in PEM; ``None``: the system's."""

    def __repr__(self) -> str:
        return f"Security(protocol={self.protocol!r}, mechanism={self.mechanism!r}, username={self.username!r})"

    def ssl_context(self) -> ssl.SSLContext | None:
        """A verifying TLS context, or ``None`` where the protocol has none."""
        return ssl.create_default_context(cafile=self.ca) if self.protocol.endswith("SSL") else None


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker's address, credentials and namespace."""

    servers: str
    security: Security | None = None
    namespace: str = ""

    @property
    def is_dev(self) -> bool:
        """Whether this is the in-memory dev broker."""
        return self.servers.startswith("dev://")

    @property
    def dev_start(self) -> str | None:
        """Id of the dev broker's start."""
        return parse_qs(urlsplit(self.servers).query)["start"][0] if self.is_dev else None

    @property
    def bootstrap(self) -> list[str]:
        """``host:port`` of each server.

        Examples
        --------
        >>> Broker("a:1,b:2").bootstrap, Broker("dev://127.0.0.1:9?start=x").bootstrap
        (['a:1', 'b:2'], ['127.0.0.1:9'])
        """
        text = urlsplit(self.servers).netloc if self.is_dev else self.servers
        return [s.strip() for s in text.split(",") if s.strip()]

    def topic(self, name: str) -> str:
        """Name of a topic in this broker's namespace."""
        return topic_name(name, self.namespace)

    def options(self) -> dict[str, Any]:
        """Keyword arguments that every class of kafka-python takes."""
        out: dict[str, Any] = {"bootstrap_servers": self.bootstrap}
        if self.is_dev:
            out["api_version"] = (2, 0)  # the mock cluster answers newer requests wrongly
        if self.security is not None:
            out["security_protocol"] = self.security.protocol
            if (context := self.security.ssl_context()) is not None:
                out["ssl_context"] = context
            if self.security.protocol.startswith("SASL"):
                out |= {
                    "sasl_mechanism": self.security.mechanism,
                    "sasl_plain_username": self.security.username,
                    "sasl_plain_password": self.security.password,
                }
        return out
