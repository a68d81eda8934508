"""Errors of the observing side. A decision is a value; an exception says that something could not
be done."""

from __future__ import annotations

import traceback
from os.path import basename

__all__ = [
    "AddressError",
    "BrokerRefused",
    "BrokerUnavailable",
    "FileError",
    "LeaseError",
    "NoAnswer",
    "ReleaseError",
    "StateError",
    "StoreUnavailable",
    "StoreUnusable",
    "StreamsError",
    "WireError",
]


class StreamsError(Exception):
    """Something on the observing side could not be done."""

    retriable = False
    """Whether the same call may succeed later without anybody changing anything."""


class WireError(StreamsError):
    """A record could not be read: it belongs in the dead-letter topic.

    Parameters
    ----------
    code
        One word of a closed vocabulary, for counting: ``malformed``, ``oversized``,
        ``unknown_type``, ``unknown_version``, ``missing_field``, ``invalid_field``, ``failed``,
        ``kills``.
    reason
        What was wrong and where, for a person.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason

    @classmethod
    def failed(cls, error: Exception) -> WireError:
        """Whatever a record made our own code raise: a defect of ours, and no reason to stop.

        Where it was raised stands in the reason, before what hostile bytes may make of the message.

        Examples
        --------
        >>> try:
        ...     {}["x"]
        ... except KeyError as error:
        ...     print(WireError.failed(error))
        failed: KeyError at <doctest ...>:2: 'x'
        """
        if isinstance(error, cls):
            return error.alone()
        frames = traceback.extract_tb(error.__traceback__)
        where = f" at {basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
        return cls("failed", f"{type(error).__name__}{where}: {str(error)[:300]}")

    @property
    def kind(self) -> str:
        """What is the same in each error of this kind, for saying it once: code, or exception and
        place."""
        return self.reason.partition(": ")[0] if self.code == "failed" else self.code

    def alone(self) -> WireError:
        """The same, to be kept: without the frames in which it was raised. They hold the records,
        and the list it is kept in, until the garbage collector comes.
        """
        return WireError(self.code, self.reason)


class BrokerUnavailable(StreamsError):
    """The broker cannot be reached."""

    retriable = True


class BrokerRefused(StreamsError):
    """The broker answered and refused: bad credentials, no permission, or a plain-text listener
    asked for TLS."""


class StateError(StreamsError):
    """Stored state cannot be used: it is newer than this program, of another configuration, or not
    authentic."""


class ReleaseError(StreamsError):
    """A release could not be fetched, verified or loaded; what is being served stays."""


class NoAnswer(StreamsError, ValueError):
    """A model answered rows with what is no number (NaN): there is no prediction of them.

    A ``ValueError``, because it is about the values of a row: others are answered.

    Parameters
    ----------
    rows
        Indices of the rows of the call.
    reason
        Which model, and what may be the cause.
    """

    def __init__(self, rows: tuple[int, ...], reason: str) -> None:
        super().__init__(reason)
        self.rows = rows

    def __reduce__(self) -> tuple[type[NoAnswer], tuple[tuple[int, ...], str]]:
        return NoAnswer, (self.rows, str(self))


class StoreUnavailable(StreamsError):
    """The database is away, or stayed locked for too long; nothing was written."""

    retriable = True


class StoreUnusable(StreamsError):
    """The database cannot be used as it is: not upgraded, newer than this program, refused, or not
    a database."""


class AddressError(StreamsError):
    """An address of this machine cannot be listened on: it is taken, or not ours.

    Parameters
    ----------
    error
        Why not.
    do
        What helps.

    Examples
    --------
    >>> taken = OSError(98, "Address already in use (while attempting to bind on ...)")
    >>> print(AddressError("::1", 80, taken, do="choose another --port"))
    cannot listen on ::1:80: Address already in use; choose another --port
    """

    exit_code = 2

    def __init__(self, host: str, port: int, error: OSError, *, do: str) -> None:
        # `socket.create_server` tells the address once more
        why = (error.strerror or str(error)).partition(" (while attempting")[0]
        super().__init__(f"cannot listen on {host}:{port}: {why}; {do}")


class LeaseError(StreamsError):
    """The lease is held by somebody else by now: nothing more may be written under it."""


class FileError(StreamsError):
    """A file that was given to a command cannot be used: missing, of another format, or without a
    column it needs."""

    exit_code = 2
