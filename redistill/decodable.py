"""Types that JSON and MessagePack are decoded into, made ready while one thread runs."""

from __future__ import annotations

from typing import TypeVar

import msgspec

__all__ = ["decodable"]

_T = TypeVar("_T", bound=type)


def decodable(kind: _T) -> _T:
    """Class decorator: lets msgspec gather what it needs to know of a type, and of all in it, now.

    By itself msgspec (0.22) does so at the first decode, and other threads see what is made by
    halves: two threads that decode one type for the first time crash the process. A repair worker
    whose tasks began together died of it in a start.

    Examples
    --------
    >>> @decodable
    ... class Point(msgspec.Struct):
    ...     x: int
    >>> msgspec.json.decode(b'{"x": 1}', type=Point)
    Point(x=1)
    """
    msgspec.json.Decoder(kind)
    return kind
