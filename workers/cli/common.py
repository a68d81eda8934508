"""Helpers of the commands: settings, the open database, printing for people or for programs."""

from __future__ import annotations

import functools
import getpass
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from redistill.times import to_seconds, utc

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from redistill.streams.store.database import Database
    from redistill.workers.settings.settings import Settings

__all__ = [
    "AS_JSON",
    "Listing",
    "actor",
    "ago",
    "console",
    "duration",
    "echo",
    "load",
    "moment",
    "one_line",
    "opened",
    "print_json",
    "say",
    "table",
]


_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Control characters but tab and newline, marks of direction, and halves of characters."""

AS_JSON = typer.Option(False, "--json", help="One JSON document instead of text.")


class Listing(TyperGroup):
    """A group whose bare name lists: ``redistill incidents`` is ``redistill incidents list``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``list`` in front where no command was named."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def actor() -> str:
    """Who asks, for the audit chain."""
    return f"cli:{getpass.getuser()}"


def load(**overrides: Any) -> Settings:
    """The settings; keyword arguments that are not ``None`` win over the environment.

    What looks like a setting and is none is told on standard error, by the first call.
    """
    from redistill.workers.settings.settings import Settings

    _tell_unknown()
    return Settings.load(overrides)


@functools.cache
def _tell_unknown() -> None:
    from redistill.workers.settings.settings import unknown_variables

    for told in unknown_variables():
        echo(f"redistill: warning: {told}", err=True)


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """The database, checked, and closed at the end."""
    from redistill.workers.store import opening

    database = opening.open(settings)
    try:
        yield database
    finally:
        database.dispose()


def plain(text: str) -> str:
    """A text that a terminal shows as it stands: what would move the cursor, colour or turn the
    text around is written as an escape. Names and reasons come from services and files.

    Examples
    --------
    >>> print(plain("\x1b[2Jfine\u202e"))
    \\x1b[2Jfine\\u202e
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(name: str) -> str:
    """A name that somebody else chose, ``plain`` and on one line: it forges no other."""
    return plain(name).replace("\n", "\\n").replace("\t", "\\t")


def echo(text: str, *, err: bool = False) -> None:
    """Print a line for people or programs, ``plain``."""
    typer.echo(plain(text), err=err)


def console(*, stderr: bool = False) -> Console:
    """Where tables for people go: plain text without a terminal; brackets and colons in names
    are what they are, and nothing in them steers the terminal.
    """
    from rich.console import Console

    class Plain(Console):
        """Shows strings ``plain``."""

        def render_str(self, text: str, **options: Any) -> Any:
            return super().render_str(plain(text), **options)

    return Plain(stderr=stderr, highlight=False, markup=False, emoji=False)


def table(*columns: str) -> Table:
    """A table without lines whose cells are folded, never cut."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for name in columns:
        made.add_column(name, overflow="fold")
    return made


def say(value: Any, sentence: str, *, as_json: bool) -> None:
    """What a command did: a sentence for people, or a JSON document for programs."""
    if as_json:
        print_json(value)
    else:
        echo(sentence)


def print_json(value: Any) -> None:
    """Print one JSON document, for programs."""
    echo(json.dumps(value, indent=2, sort_keys=False, default=str))


def moment(us: int | None) -> str:
    """A time as people read it.

    Examples
    --------
    >>> moment(1_700_000_000_000_000), moment(None)
    ('2023-11-14 22:13:20Z', '-')
    """
    if not us:
        return "-"
    return utc(us).strftime("%Y-%m-%d %H:%M:%SZ")


def ago(us: int | None, now: int) -> str:
    """How long ago something was, coarsely.

    Examples
    --------
    >>> ago(0, 90_000_000), ago(None, 0), ago(1, 7_200_000_001)
    ('1.5 min', '-', '2.0 h')
    """
    return "-" if us is None else duration(to_seconds(now - us))


def duration(seconds: float) -> str:
    """A duration in the unit that suits it.

    Examples
    --------
    >>> duration(0.4), duration(75), duration(86_400 * 4)
    ('0.4 s', '1.2 min', '4.0 days')
    """
    for limit, divisor, unit in ((60, 1, "s"), (3_600, 60, "min"), (86_400, 3_600, "h")):
        if abs(seconds) < limit:
            return f"{seconds / divisor:.1f} {unit}"
    return f"{seconds / 86_400:.1f} days"
