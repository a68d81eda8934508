"""Values of settings: what one must look like, and what may be said of one that does not.

Pure functions for ``redistill.workers.settings.settings``; a ``ValueError`` is the sentence behind
``KEY = 'value':``.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from pydantic import SecretStr

from redistill.workers.settings.state_key import FEWEST_BYTES

__all__ = [
    "database",
    "hex_key",
    "is_loopback",
    "namespace",
    "servers",
    "token",
    "web_url",
    "without_password",
]

DEV_ADDRESS = re.compile(r"dev://[^/?]+:\d+(\?start=[0-9A-Za-z-]+)?")
LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})


def is_loopback(server: str) -> bool:
    """Whether ``host[:port]`` names this machine's loopback interface.

    Examples
    --------
    >>> is_loopback("127.0.0.1:9092"), is_loopback("[::1]:9092"), is_loopback("kafka:9092")
    (True, True, False)
    """
    host = server.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") <= 1:
        host = host.partition(":")[0]
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def namespace(value: str) -> str:
    """What is put in front of topics: no name with which they would be the topics of bound sources
    of another installation, ``labels.SOURCE``.

    Examples
    --------
    >>> namespace("staging"), namespace("")
    ('staging', '')
    """
    if value.rpartition(".")[2] == "labels":
        raise ValueError(
            "topics behind it, such as labels.drift, would be those of bound sources of another"
            " installation: choose another one"
        )
    return value


def servers(value: str | None) -> str | None:
    """Addresses of brokers; blank is none."""
    if value is None or not value.strip():
        return None
    text = value.strip()
    if text.startswith("dev://"):
        if not DEV_ADDRESS.fullmatch(text):
            raise ValueError(
                "a dev broker's address looks like dev://127.0.0.1:PORT, or that and ?start=UUID"
            )
        return text
    for part in text.split(","):
        host, colon, port = part.strip().rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 65_536):
            raise ValueError(f"host:port[,host:port] was expected, {part.strip()!r} is not that")
    return text


def database(value: str | None) -> str | None:
    """A database's URL, with the driver that we use; blank is none."""
    if value is None or not value.strip():
        return None
    text = value.strip()
    if text.startswith(("postgres://", "postgresql://")):
        return "postgresql+psycopg://" + text.partition("://")[2]
    if not text.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValueError("sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME was expected")
    return text


def web_url(value: str | None) -> str | None:
    """Where people reach a page, without a slash at its end; blank is none.

    Examples
    --------
    >>> web_url(" https://redistill.example/ops/ ")
    'https://redistill.example/ops'
    """
    if value is None or not value.strip():
        return None
    text = value.strip().rstrip("/")
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise ValueError("https://HOST[/PATH] without name, password or query was expected")
    return text


def hex_key(value: SecretStr | None) -> SecretStr | None:
    """A key of 16 bytes or more in hexadecimal digits."""
    if value is None:
        return None
    text = value.get_secret_value().strip()
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise ValueError(
            "hexadecimal digits were expected, for example from `openssl rand -hex 32`"
        ) from None
    if len(raw) < FEWEST_BYTES:
        raise ValueError("at least 16 bytes (32 hexadecimal digits) were expected")
    return SecretStr(text)


TOKEN_CHARACTERS = 32
"""Of a token that is made at random: 128 bits where they are hexadecimal digits, and no number of
tries that a network carries finds it."""


def token(value: SecretStr | None) -> SecretStr | None:
    """A bearer token, as it stands in a header; white space around it (a file's last line) goes.

    Examples
    --------
    >>> token(SecretStr("a" * 32 + "\\n")).get_secret_value() == "a" * 32
    True
    """
    if value is None:
        return None
    text = value.get_secret_value().strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"letters, digits and signs of ASCII without spaces were expected, {MAKE}")
    if len(text) < TOKEN_CHARACTERS:
        raise ValueError(
            f"{TOKEN_CHARACTERS} characters or more were expected, not {len(text)}, {MAKE}"
        )
    return SecretStr(text)


MAKE = "for example from `openssl rand -hex 32`"


def without_password(value: Any) -> Any:
    """Hide the passwords of URLs: behind a user's name, whatever signs they have, and in the query.

    Examples
    --------
    >>> without_password("postgresql://me:p@s/s@host/name?sslmode=require&password=pass")
    'postgresql://me:***@host/name?sslmode=require&password=***'
    """
    if not isinstance(value, str):
        return value
    value = re.sub(r"(://[^:/@?\s]*):\S*@", r"\1:***@", value)
    value = re.sub(r"((?:^|[\s'\"])[^:/@?\s'\"]+):(?!//)\S*@", r"\1:***@", value)
    return re.sub(r"(?i)([?&](?:ssl)?password=)[^&\s'\"]*", r"\1***", value)
