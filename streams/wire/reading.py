"""Reading records one by one: the door through which foreign records come in, whoever reads them.

Whatever one of them makes our own code raise, it is set aside with its reason, and the others are
read. Thousands of predictions have a door of their own, ``decode_predictions``, which promises the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from redistill.streams.errors import StreamsError, WireError

__all__ = ["is_ours", "read_each"]

R = TypeVar("R")
T = TypeVar("T")


def read_each(
    records: Iterable[R], read: Callable[[R], T]
) -> tuple[list[T], list[tuple[R, WireError]]]:
    """Read each record.

    Parameters
    ----------
    read
        Makes something of a record; raises ``WireError`` where it cannot be read.

    Returns
    -------
    tuple
        What was made of those that can be read, and the others, each with its reason: of the code
        ``failed`` where something else was raised.

    Raises
    ------
    MemoryError, StreamsError
        Nothing is wrong with the records, as when the database is away: they are read again.

    Examples
    --------
    >>> read_each([b"1", b"x"], int)
    ([1], [(b'x', WireError("failed: ValueError at reading.py:...: invalid literal ..."))])
    """
    made: list[T] = []
    unreadable: list[tuple[R, WireError]] = []
    for record in records:
        try:
            made.append(read(record))
        except Exception as error:
            if is_ours(error):
                raise
            unreadable.append((record, WireError.failed(error)))
    return made, unreadable


def is_ours(error: Exception) -> bool:
    """Whether an error says nothing about the record that was being read."""
    if isinstance(error, WireError):
        return False
    return isinstance(error, MemoryError | StreamsError)
