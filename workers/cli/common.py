"""Helpers of the commands: settings, the open database, printing for people or for programs."""

from __future__ import annotations

import functools
import getpass
import json
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

import typer
from typer.core import TyperGroup

from redistill import modes
from redistill.times import to_seconds, utc

if TYPE_CHECKING:
    import sqlalchemy as sa
    from rich.console import Console
    from rich.table import Table

    from redistill.streams.store.database import Database
    from redistill.workers.settings.environment import Process
    from redistill.workers.settings.settings import Settings

__all__ = [
    "AS_JSON",
    "MODEL",
    "OF_MODEL",
    "WAIVE",
    "WAIVE_REASON",
    "Listing",
    "actor",
    "ago",
    "complete_model",
    "console",
    "duration",
    "echo",
    "echo_live",
    "echo_text",
    "load",
    "moment",
    "one_line",
    "opened",
    "paragraph",
    "print_json",
    "say",
    "table",
    "waived",
    "want_model",
    "want_reason",
    "want_source",
    "want_writable",
]


_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Control characters but tab and newline, marks of direction, and halves of characters."""

IN_HOME = frozenset(
    {
        *("redistill.db", "redistill.db-wal", "redistill.db-shm", "redistill.db-journal"),
        *("dev-broker", "keys", "objects", "jobs", "logs", "repository", "private"),
    }
)
"""What redistill keeps in a home."""

AS_JSON = typer.Option(False, "--json", help="One JSON document instead of text.")

WAIVE: Any = typer.Option(
    [],
    "--waive",
    metavar="GATE",
    help="A gate of trusted rows that you take upon yourself, for this job only; may be repeated.",
)
WAIVE_REASON: Any = typer.Option(None, "--reason", help="With --waive: why, for the record.")


def waived(gates: Iterable[str], reason: str | None, allowed: Collection[str]) -> dict[str, str]:
    """What ``--waive`` and ``--reason`` say: the reason by gate.

    Parameters
    ----------
    allowed
        Gates that may be waived (``redistill.workers.jobs.question``).

    Raises
    ------
    UsageError
        A gate that nobody can waive, no reason, or a reason for nothing.
    """
    from redistill.workers.errors import UsageError

    names = list(dict.fromkeys(gates))
    told = want_reason(reason) if reason and reason.strip() else ""
    if wrong := [name for name in names if name not in allowed]:
        raise UsageError(
            f"--waive {wrong[0]}: only gates of trusted rows can be waived:"
            f" {', '.join(sorted(allowed))}"
        )
    if names and not told:
        raise UsageError("--waive needs --reason: say why, for the record")
    if told and not names:
        raise UsageError("--reason says why a gate is waived: name it with --waive")
    return dict.fromkeys(names, told)


def want_model(conn: sa.Connection, name: str | None) -> None:
    """Refuse the name of a model that is not registered, with those that look like it.

    Raises
    ------
    UsageError
    """
    from redistill.workers.errors import UsageError
    from redistill.workers.store import names

    if name is not None and (told := names.no_such_model(conn, name)) is not None:
        raise UsageError(told)


MAX_SOURCE = 80
"""Characters of a label source's name."""


def want_source(name: str) -> None:
    """Refuse what is no name of a label source.

    Raises
    ------
    UsageError
    """
    from redistill.workers.errors import UsageError

    if not 0 < len(name) <= MAX_SOURCE:
        raise UsageError(f"--source has {len(name)} characters: 1 to {MAX_SOURCE} are allowed")
    if one_line(name) != name:
        raise UsageError(f"--source has a character that cannot be printed: {one_line(name)}")


MAX_REASON = 1_000
"""Characters of what somebody gives as the reason."""


def want_reason(reason: str, ask: str = "say why, for the record") -> str:
    """What ``--reason`` says, without blanks around it: one line of text.

    Parameters
    ----------
    ask
        What is to be said, where nothing is.

    Raises
    ------
    UsageError
    """
    from redistill.workers.errors import UsageError

    told = reason.strip()
    if not told:
        raise UsageError(f"--reason is empty: {ask}")
    if len(told) > MAX_REASON:
        raise UsageError(f"--reason has {len(told):,} characters, {MAX_REASON:,} are allowed")
    if one_line(told) != told:
        raise UsageError(f"--reason is one line of text, without: {_unprintable(told)}")
    return told


def _unprintable(text: str) -> str:
    found = dict.fromkeys(one_line(c) for c in text if one_line(c) != c)
    return ", ".join(found)


def complete_model(incomplete: str) -> list[str]:
    """Names of models for the shell, where the database is there and answers."""
    try:
        from redistill.workers.settings.settings import Settings
        from redistill.workers.store import names, opening

        settings = Settings.load({})
        if opening.missing(settings) is not None:
            return []
        with opened(settings) as database, database.read() as conn:
            return [n for n in names.model_names(conn) if n.startswith(incomplete)]
    except Exception:  # whoever types wants no traceback between two letters
        return []


MODEL: Any = typer.Argument(..., help="Name of the model.", autocompletion=complete_model)
OF_MODEL: Any = typer.Option(
    None, "--model", help="Of this model only.", autocompletion=complete_model
)


def paragraph(text: str, *, width: int | None = None, indent: int = 2) -> str:
    """A text below a heading: indented, wrapped, each choice of a question on a line of its own,
    and no command broken.

    Parameters
    ----------
    width
        In cells, of which some characters take two; ``None``: of the terminal.
    indent
        Spaces before the first line; those below it have two more, where it has none.

    Examples
    --------
    >>> print(paragraph("it lacks rows. Choose: (1) bring `some now`; (2) do `with out`", width=24))
      it lacks rows. Choose:
        (1) bring
            `some now`;
        (2) do `with out`
    """
    lines: list[str] = []
    said = plain(text)
    if " Choose: (1) " in said:
        said = re.sub(r"(?<=[:;]) (\(\d\) )", r"\n  \1", said)
    for line in said.splitlines():
        body = line.lstrip()
        lead = " " * (indent + len(line) - len(body))
        whole = re.sub(r"`[^`]*`", lambda found: found[0].replace(" ", "\xa0"), body)
        whole = "".join(c + "\0" if east_asian_width(c) in "WF" else c for c in whole)
        lines += textwrap.wrap(
            whole,
            width or console().width,
            initial_indent=lead,
            subsequent_indent=lead or "  " if len(lead) <= 2 else lead + "    ",
            break_long_words="\xa0" not in whole,
            break_on_hyphens=False,
        )
    return "\n".join(lines).replace("\xa0", " ").replace("\0", "")  # plain has left no NUL


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


def load(process: Process = "command", **overrides: Any) -> Settings:
    """The settings; keyword arguments that are not ``None`` win over the environment.

    What looks like a setting and is none is told on standard error, by the first call. What a
    ``process`` does not read is taken out of the environment.
    """
    from redistill.workers.settings.environment import withhold
    from redistill.workers.settings.settings import Settings

    _tell_unknown(process)
    if process != "command":
        withhold(process)
    settings = Settings.load(overrides)
    _close_home(settings, process)
    return settings


def _close_home(settings: Settings, process: Process) -> None:
    """Others may not read a home: one that an earlier version left open is closed, and told."""
    try:
        opened = modes.close_to_others(settings.root, IN_HOME)
    except OSError as error:
        _warn(process, "home_open", f"others may read {settings.root}: {error.strerror}")
        return
    if opened:
        _warn(
            process,
            "home_closed",
            f"others could read files in {settings.root}: all that redistill keeps there is its"
            " owner's alone now",
        )


@functools.cache
def _tell_unknown(process: Process) -> None:
    from redistill.workers.settings.environment import unknown_variables

    for told in unknown_variables():
        _warn(process, "unknown_setting", told)


def _warn(process: Process, action: str, told: str) -> None:
    """A warning: a sentence of a command, a log line of a process."""
    if process == "command":
        echo(f"redistill: warning: {told}", err=True)
        return
    import structlog

    structlog.get_logger(__name__).warning(action, action=action, said=told)


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """The database, checked, and closed at the end."""
    from redistill.workers.store import opening

    database = opening.open(settings)
    try:
        yield database
    finally:
        database.dispose()


def want_writable(path: Path, option: str) -> None:
    """Refuse before the work what cannot be written after it.

    Raises
    ------
    UsageError
    """
    from redistill.workers.errors import UsageError

    known = path.exists()
    try:
        with path.open("a"):
            pass
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be written: {error.strerror}") from error
    if not known:
        with suppress(OSError):
            path.unlink()


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


def echo(line: str, *, err: bool = False) -> None:
    """Print one line for people, ``one_line``: nothing that somebody wrote in it looks like a line
    of ours."""
    typer.echo(one_line(line), err=err)


def echo_text(text: str, *, err: bool = False) -> None:
    """Print a text of several lines, whose breaks are ours, ``plain``."""
    typer.echo(plain(text), err=err)


def echo_live(line: str) -> None:
    """Show one line in place of the one before, on the terminal of standard error; an empty one
    takes it away."""
    typer.echo(f"\r\x1b[K{one_line(line)}", nl=False, err=True)


def console(*, stderr: bool = False) -> Console:
    """Where tables for people go: plain text without a terminal; brackets and colons in names
    are what they are, and nothing in them steers the terminal.
    """
    from rich.console import Console

    class Plain(Console):
        """Shows each string, and each cell of a table, on one line."""

        def render_str(self, text: str, **options: Any) -> Any:
            return super().render_str(one_line(text), **options)

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
    """Print one JSON document, for programs.

    Parameters
    ----------
    value
        JSON's own values, and documents (``redistill.workers.documents``) among them.
    """
    echo_text(json.dumps(value, indent=2, sort_keys=False, default=_plain))


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


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
    """How long ago something was, coarsely; what a clock that is ahead puts into the future is now.

    Examples
    --------
    >>> ago(0, 90_000_000), ago(None, 0), ago(1, 7_200_000_001), ago(10, 0)
    ('1.5 min', '-', '2.0 h', '0.0 s')
    """
    return "-" if us is None else duration(max(0.0, to_seconds(now - us)))


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
