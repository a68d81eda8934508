"""Called: the keys of channels that call a URL, and the call itself."""

from __future__ import annotations

import ssl
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
from redistill.workers.alerts.channels.egress import EgressRefused, Network, judge
from redistill.workers.alerts.channels.exchange import Answer, exchange
from redistill.workers.alerts.channels.option import option
from redistill.workers.alerts.channels.secret import Secret, secret_of

__all__ = ["Called", "Url", "proxy_of", "revealed"]


def file_of(value: object) -> Path:
    """Reader of a file's path."""
    if not isinstance(value, str) or not Path(value).is_absolute() or not Path(value).is_file():
        raise ValueError("the absolute path of a file that is there was expected")
    return Path(value)


def authorities_of(value: object) -> Path:
    """Reader of a file of CA certificates."""
    found = file_of(value)
    try:
        ssl.create_default_context(cafile=str(found))
    except (ssl.SSLError, OSError):
        raise ValueError(f"{found} holds no certificates in PEM") from None
    return found


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
        authorities_of, "CA certificates in PEM in place of the system's", default=None
    )
    proxy: Address | None = option(
        proxy_of,
        "http://HOST:PORT of a proxy that opens tunnels to https; it then looks names up and judges"
        " where they lead",
        default=None,
    )

    def usable(self, to: Address) -> None:
        """Nothing, if an address may be called, as far as that can be told without asking.

        Raises
        ------
        ValueError
            It would be refused each time.
        """
        if to.scheme == "http" and self.proxy is not None:
            raise ValueError("http cannot be called through a proxy: write https")
        if to.scheme == "http" and not self.allow_private:
            raise ValueError("http is spoken to networks of `allow_private` only: write https")
        try:
            judge(to.host, self.allow_private)
        except EgressRefused as error:
            raise ValueError(f"{error}; `allow_private` names what may be called") from None

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
        self._within(self.url.now())

    def address(self) -> Address:
        """Where it goes now.

        Raises
        ------
        DeliveryFailed
            The URL is behind a secret that is gone, or has another host than is allowed.
        """
        try:
            found = self.url.now()
        except ValueError as error:
            raise DeliveryFailed(f"url: {error}", retriable=False) from None
        try:
            self._within(found)
        except ValueError as error:
            raise DeliveryFailed(str(error), retriable=False) from None
        return found

    def _within(self, found: Address) -> None:
        if self.hosts and found.host not in self.hosts:
            raise ValueError(f"url: its host {found.host} is none of `hosts`")
        try:
            self.usable(found)
        except ValueError as error:
            raise ValueError(f"url: {error}") from None

    def credentials(self) -> dict[str, str]:
        """The header ``Authorization``, where there is one."""
        if self.authorization is None:
            return {}
        return {"Authorization": revealed(self.authorization)}


def revealed(given: Secret) -> str:
    """What a secret holds, as ``Secret.read`` has it.

    Raises
    ------
    DeliveryFailed
        It is gone, or no single line any more. What it holds is not repeated.
    """
    try:
        return given.read()
    except ValueError as error:
        raise DeliveryFailed(str(error), retriable=False) from None
