"""Address: a URL that a channel calls, taken apart and checked before anything is sent to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_network
from typing import TypeVar
from urllib.parse import urlsplit

from redistill.workers.alerts.channels.egress import Network
from redistill.workers.alerts.channels.secret import Secret, secret_of

__all__ = [
    "Address",
    "UrlSource",
    "host_name",
    "listed",
    "networks_of",
    "parse",
    "url_of",
    "url_or_secret_of",
]

T = TypeVar("T")
LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
MOST_CHARACTERS = 2_000


@dataclass(frozen=True)
class Address:
    """Where a request goes. Its text shows no path: many receivers have their token in it."""

    scheme: str
    host: str
    """In small letters; an IPv6 address has no brackets."""
    port: int
    target: str = field(repr=False)
    """Path and query."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def at(self, path: str) -> Address:
        """The same server and what is below this address's path.

        Examples
        --------
        >>> parse("https://am.example/prefix/").at("/api/v2/alerts").target
        '/prefix/api/v2/alerts'
        """
        return Address(self.scheme, self.host, self.port, self.target.rstrip("/") + path)


def parse(text: str) -> Address:
    """A URL.

    Raises
    ------
    ValueError
        It is none, or one of a kind that is not called: with a password in it, with a host that
        two programs read differently. The text is not repeated.

    Examples
    --------
    >>> parse("https://Hooks.example.com/x?y=1")
    Address(scheme='https', host='hooks.example.com', port=443)
    """
    if len(text) > MOST_CHARACTERS or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"a URL of at most {MOST_CHARACTERS:,} ASCII characters was expected")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("this is no URL") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or "\\" in text:
        raise ValueError("https://HOST/PATH was expected")
    if "@" in parts.netloc:
        raise ValueError("it has credentials in front of its host: give them by `authorization`")
    if parts.fragment:
        raise ValueError("what stands behind # is never sent: leave it out")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if port == 0:
        raise ValueError("there is no port 0")
    usual = 443 if parts.scheme == "https" else 80
    return Address(parts.scheme, host_name(parts.hostname), usual if port is None else port, target)


def host_name(text: str) -> str:
    """A host's name or address in the one form in which it is compared.

    Raises
    ------
    ValueError
        It is none, or a number that some programs take for an address (``0x7f.1``, ``2130706433``).
    """
    host = text.lower().removesuffix(".")
    if "%" in host:
        raise ValueError("its host is an address of one interface")
    try:
        return str(IPv6Address(host)) if ":" in host else str(IPv4Address(host))
    except AddressValueError:
        pass
    labels = host.split(".")
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]) or ":" in host:
        raise ValueError("its host is no name, and no address in its usual form")
    if len(host) > 253 or not all(map(LABEL.fullmatch, labels)):
        raise ValueError("its host is no name (other scripts are written as xn--...)")
    return host


def url_of(value: object) -> Address:
    """Reader of a URL that is written out."""
    if not isinstance(value, str):
        raise ValueError("a URL was expected")
    return parse(value)


@dataclass(frozen=True)
class UrlSource:
    """A URL that is written out, or one that is a secret and may change."""

    given: Address | Secret

    def now(self) -> Address:
        """The address as it is now; ``ValueError`` as :func:`parse` and ``Secret.read`` say."""
        return self.given if isinstance(self.given, Address) else parse(self.given.read())


def url_or_secret_of(value: object) -> UrlSource:
    """Reader of a URL with or without a secret in it."""
    if isinstance(value, str) and value.startswith(("env:", "file:")):
        made = UrlSource(secret_of(value))
        made.now()
        return made
    return UrlSource(url_of(value))


def listed(reader: Callable[[str], T]) -> Callable[[object], tuple[T, ...]]:
    """A reader of lists of texts."""

    def read(value: object) -> tuple[T, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise ValueError('a list of texts was expected, like ["one", "two"]')
        return tuple(map(reader, value))

    return read


def networks_of(value: object) -> Sequence[Network]:
    """Reader of ``allow_private``.

    Examples
    --------
    >>> networks_of(["10.1.0.0/16"])
    (IPv4Network('10.1.0.0/16'),)
    """
    return listed(_network)(value)


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"{error}; a network looks like 10.0.0.0/8") from None
