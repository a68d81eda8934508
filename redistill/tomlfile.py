"""TOML files that people write: read within bounds, and what is wrong with one is a sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

__all__ = ["TomlError", "parse", "read"]

MAX_BYTES = 32 * 2**20
"""Of a file: some 100,000 features with their ranges. A device has no end."""


class TomlError(ValueError):
    """The file is not there, cannot be read, or is no TOML; the message says which file."""


def read(path: Path) -> str:
    """The text of a file, without the byte order mark that editors on Windows begin it with.

    Raises
    ------
    FileNotFoundError
        It is not there.
    TomlError
        It cannot be read, is longer than ``MAX_BYTES``, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TomlError(f"{path} cannot be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise TomlError(f"{path} has more than {MAX_BYTES:,} bytes, which are allowed")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TomlError(f"{path} cannot be read: {error}") from error


def parse(text: str, path: Path) -> dict[str, Any]:
    """A text as a document.

    Parameters
    ----------
    path
        Where it comes from, for the message.

    Raises
    ------
    TomlError
        It is no TOML, or nested too deeply to be read.

    Examples
    --------
    >>> parse('[model]\\nversion = "1"', Path("model.toml"))
    {'model': {'version': '1'}}
    >>> parse("x = " + "[" * 9_999, Path("model.toml"))
    Traceback (most recent call last):
    ...
    redistill.tomlfile.TomlError: model.toml is not TOML that can be read: it is nested too deeply
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TomlError(f"{path} is not TOML: {error}") from error
    except RecursionError as error:
        raise TomlError(f"{path} is not TOML that can be read: it is nested too deeply") from error
