"""JSON with a format number, for values that are stored as text in SQL. Pure."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from redistill.streams.errors import StateError

__all__ = ["from_json", "to_json"]

_T = TypeVar("_T")
_PARTS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def to_json(value: Any, *, name: str, number: int) -> str:
    """``{"format": number, name: value}``.

    Examples
    --------
    >>> to_json([1, 2], name="rows", number=3)
    '{"format":3,"rows":[1,2]}'
    """
    return msgspec.json.encode({"format": number, name: value}).decode()


def from_json(data: str | bytes, kind: type[_T], *, name: str, number: int, what: str) -> _T:
    """Read what ``to_json`` wrote.

    Parameters
    ----------
    kind
        Type of the value; ``decodable``.
    number
        Newest format that is known. It is looked at before the value is: a newer one need not have
        the same fields.
    what
        Names the value in messages, in the plural.

    Raises
    ------
    StateError
        If it is no such value, or of a newer format.

    Examples
    --------
    >>> from_json('{"format":3,"rows":[1,2]}', list[int], name="rows", number=3, what="row numbers")
    [1, 2]
    """
    try:
        parts = _PARTS.decode(data)
        found = msgspec.json.decode(parts["format"], type=int)
        if found > number:
            raise StateError(
                f"stored {what} have format {found}, this program knows {number}: upgrade redistill"
            )
        return msgspec.json.decode(parts[name], type=kind)
    except msgspec.MsgspecError as error:
        raise StateError(f"stored {what} cannot be read: {error}") from error
    except KeyError as error:
        raise StateError(f"stored {what} cannot be read: {error} is missing") from error
