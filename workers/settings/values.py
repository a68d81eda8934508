"""Values of settings: what one must look like, and what may be said of one that does not.

Pure functions for ``redistill.workers.settings.settings``; a ``ValueError`` is the sentence behind
``KEY = 'value':``.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import SecretStr

__all__ = ["database", "hex_key", "servers", "without_password"]


def servers(value: str | None) -> str | None:
    """Addresses of brokers; blank is none."""
    if value is None or not value.strip():
        return None
    text = value.strip()
    if text.startswith("dev://"):
        if "start=" not in text:
            raise ValueError("a dev broker's address looks like dev://127.0.0.1:PORT?start=UUID")
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
    if len(raw) < 16:
        raise ValueError("at least 16 bytes (32 hexadecimal digits) were expected")
    return SecretStr(text)


def without_password(value: Any) -> Any:
    """Hide the password of a URL."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", value) if isinstance(value, str) else value
