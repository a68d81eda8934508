"""Called: the keys of channels that call a URL, and the call itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from redistill.workers.alerts.channels.address import (
    Address,
    UrlSource,
    host_name,
    listed,
    networks_of,
    url_of,
    url_or_secret_of,
)
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.alerts.channels.egress import Network
from redistill.workers.alerts.channels.exchange import Answer, exchange
from redistill.workers.alerts.channels.option import option
from redistill.workers.alerts.channels.secret import Secret, secret_of

__all__ = ["Called", "Url", "proxy_of", "revealed"]


def file_of(value: object) -> Path:
    """Reader of a file's path."""
    if not isinstance(value, str) or not Path(value).is_absolute() or not Path(value).is_file():
        raise ValueError("the absolute path of a file that is there was expected")
    return Path(value)


def proxy_of(value: object) -> Address:
    """Reader of a proxy's address."""
    found = url_of(value)
    if found.scheme != "http" or found.target != "/":
        raise ValueError("http://HOST:PORT of a proxy was expected")
    return found


@dataclass(frozen=True, kw_only=True)
class Called:
    """Keys of every channel that speaks HTTP itself."""

    allow_private: Sequence[Network] = option(
        networks_of,
        'networks that are not public and may be called, like `["10.0.0.0/8"]`; http without TLS'
        " is spoken to these only",
        default=(),
    )
    ca: Path | None = option(
        file_of, "CA certificates in PEM in place of the system's", default=None
    )
    proxy: Address | None = option(
        proxy_of,
        "http://HOST:PORT of a proxy that opens tunnels to https; it then looks names up and judges"
        " where they lead",
        default=None,
    )

    def call(
        self,
        method: str,
        to: Address,
        *,
        seconds: float,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> Answer:
        """One exchange; ``DeliveryFailed`` as :func:`exchange` says."""
        return exchange(
            method,
            to,
            seconds=seconds,
            headers=headers,
            body=body,
            allow_private=self.allow_private,
            ca=self.ca,
            proxy=self.proxy,
        )


@dataclass(frozen=True, kw_only=True)
class Url(Called):
    """Keys of a channel that calls a URL of its owner's."""

    url: UrlSource = option(
        url_or_secret_of, "where it goes: https://..., or env:NAME or file:/PATH"
    )
    hosts: Sequence[str] = option(
        listed(host_name),
        "the only hosts that the URL may have; needed where it stands behind env: or file:",
        default=(),
    )
    authorization: Secret | None = option(
        secret_of,
        "value of the header Authorization (`Bearer ...`), as env:NAME or file:/PATH",
        default=None,
    )

    def __post_init__(self) -> None:
        if isinstance(self.url.given, Secret) and not self.hosts:
            raise ValueError("`hosts` is missing: the URL is not written here, so say its hosts")
        if isinstance(self.url.given, Address):
            self._within(self.url.given)

    def address(self) -> Address:
        """Where it goes now.

        Raises
        ------
        DeliveryFailed
            The URL is behind a secret that is gone, or has another host than is allowed.
        """
        try:
            found = self.url.now()
            self._within(found)
        except ValueError as error:
            raise DeliveryFailed(f"url: {error}", retriable=False) from None
        return found

    def _within(self, found: Address) -> None:
        if self.hosts and found.host not in self.hosts:
            raise ValueError(f"its host {found.host} is none of `hosts`")

    def credentials(self) -> dict[str, str]:
        """The header ``Authorization``, where there is one."""
        if self.authorization is None:
            return {}
        return {"Authorization": revealed(self.authorization)}


def revealed(given: Secret) -> str:
    """What a secret holds, fit for a header.

    Raises
    ------
    DeliveryFailed
        It is gone, or cannot stand in a header. What it holds is not repeated.
    """
    try:
        value = given.read()
    except ValueError as error:
        raise DeliveryFailed(str(error), retriable=False) from None
    if not value.isascii() or not value.isprintable():
        raise DeliveryFailed(f"{given.place} holds more than one line of ASCII", retriable=False)
    return value
