"""Channel: one way of telling people, and what can go wrong on it."""

from __future__ import annotations

from typing import Protocol

from redistill.workers.alerts.alert import Alert
from redistill.workers.errors import WorkersError

__all__ = ["Channel", "DeliveryFailed"]


class DeliveryFailed(WorkersError):
    """A channel was not told.

    Parameters
    ----------
    text
        What happened, in a sentence without any secret of the channel (no URL with a token).
    retriable
        Whether the same may go through later; a wrong password may not.
    after_seconds
        How long the receiver asks us to wait; ``None``: it did not say.
    """

    def __init__(
        self, text: str, *, retriable: bool = True, after_seconds: float | None = None
    ) -> None:
        super().__init__(text)
        self.retriable = retriable
        self.after_seconds = after_seconds


class Channel(Protocol):
    """Made from one ``[channels.NAME]`` of ``alerts.toml``; used by one thread at a time."""

    in_place: bool
    """Whether a later state of an alert takes the place of an earlier one (by ``Alert.key``): such
    a channel is told of every change. Another one is told when an alert begins, needs a person,
    and ends."""

    repeat_seconds: float | None
    """After so long what is still firing or acknowledged has to be told again, or the receiver
    takes it for resolved; ``None``: it does not forget."""

    def send(self, alert: Alert, *, seconds: float) -> None:
        """Tell it; whatever was told under the same key before is replaced or continued.

        Telling the same state twice is harmless: a process may die before it has noted a delivery.

        Raises
        ------
        DeliveryFailed
            It was not told, within ``seconds``.
        """
        ...
