"""Secret: where a value lies that nobody may read in a configuration, a log or an error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from redistill.workers.settings.environment import variable
from redistill.workers.settings.settings import PREFIX

__all__ = ["Secret", "secret_of"]

MOST_BYTES = 65_536
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FORM = "env:NAME or file:/PATH was expected, never the value itself"


@dataclass(frozen=True)
class Secret:
    """``env:NAME`` or ``file:/PATH``: what is shown of it is where it lies."""

    place: str

    def read(self) -> str:
        """The value now, without white space around it; a file that was replaced is read anew.

        Raises
        ------
        ValueError
            It is not there, empty, or no single line of ASCII. What it holds is not repeated.
        """
        kind, _, name = self.place.partition(":")
        if kind == "env":
            value = variable(name)
            if value is None:
                raise ValueError(
                    f"the environment of this process has no {name}: set it, or write file:/PATH"
                )
        else:
            value = _content(Path(name))
        value = value.strip()
        if not value:
            raise ValueError(f"{self.place} is empty")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"{self.place} holds more than one line of ASCII")
        return value


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None


def secret_of(value: object) -> Secret:
    """A secret that is there now, by its place in a configuration.

    Raises
    ------
    ValueError
        It is written out, or not there; the value is not repeated.

    Examples
    --------
    >>> secret_of("hunter2")
    Traceback (most recent call last):
    ValueError: env:NAME or file:/PATH was expected, never the value itself
    """
    text = value if isinstance(value, str) else ""
    kind, _, name = text.partition(":")
    if kind == "env" and NAME.fullmatch(name):
        if name.upper().startswith(PREFIX):
            raise ValueError(
                f"{name} has the prefix of redistill's own settings, which no channel is given;"
                f" name it otherwise"
            )
    elif not (kind == "file" and Path(name).is_absolute()):
        raise ValueError(FORM)
    made = Secret(text)
    made.read()
    return made
