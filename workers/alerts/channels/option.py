"""Option: a key of ``[channels.NAME]``, as a field of the dataclass that a channel is made from.

Reading is one function for all channels: every wrong key is told, with what it should hold.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from redistill.workers.errors import SettingsError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["number", "option", "read", "texts"]

T = TypeVar("T", bound="DataclassInstance")
_READ, _SAID = "redistill.read", "redistill.said"


def option(
    reader: Callable[[object], Any], said: str, *, default: Any = dataclasses.MISSING
) -> Any:
    """A field of a frozen dataclass that is a key.

    Parameters
    ----------
    reader
        From what the file holds to the value of the field; ``ValueError`` is a sentence without any
        secret, to stand behind ``NAME.KEY:``.
    said
        What it means and what to write, for documents.
    default
        The value where the key is missing; without one it is needed.
    """
    return dataclasses.field(default=default, metadata={_READ: reader, _SAID: said})


def texts(options: type[DataclassInstance]) -> dict[str, str]:
    """Key -> what it means, in the order of the dataclass."""
    return {f.name: f.metadata[_SAID] for f in dataclasses.fields(options)}


def read(options: type[T], given: Mapping[str, object], *, at: str) -> T:
    """The options that a section of the file gives.

    Parameters
    ----------
    at
        Name of the section, for messages.

    Raises
    ------
    SettingsError
        Keys are unknown, missing or wrong: all of them are named.
    """
    fields = {f.name: f for f in dataclasses.fields(options)}
    problems, values = [], {}
    for key in given:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
            problems.append(f"{at}.{key}: there is no such key; {hint}")
    for name, field in fields.items():
        if name in given:
            try:
                values[name] = field.metadata[_READ](given[name])
            except ValueError as error:
                problems.append(f"{at}.{name}: {error}")
        elif field.default is dataclasses.MISSING:
            problems.append(f"{at}.{name} is missing: {field.metadata[_SAID]}")
    if not problems:
        try:
            return options(**values)
        except ValueError as error:  # what no key is wrong for alone
            problems.append(f"{at}: {error}")
    raise SettingsError("; ".join(problems))


def number(low: float, high: float) -> Callable[[object], float]:
    """A reader of numbers within bounds."""

    def reader(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("a number was expected")
        if not low <= value <= high:
            raise ValueError(f"{value:g} is not between {low:g} and {high:g}")
        return float(value)

    return reader
