"""Exit codes of the program: one set for every command and process, documented in
``docs/commands.md``."""

from __future__ import annotations

import enum

__all__ = ["ExitCode"]


class ExitCode(enum.IntEnum):
    """What a command or a process exits with. No code has two meanings."""

    OK = 0
    """Done, or all is well."""
    REFUSED = 1
    """It was looked at, and the answer is no."""
    USAGE = 2
    """The call is wrong: a command, an option, a name, a setting or a file that was given, or an
    extra that is not installed. Calling it again is in vain."""
    UNDECIDED = 3
    """It was looked at, and labels or rows are too few to say yes or no: later."""
    NEEDS_PERSON = 5
    """Only a person can decide; the text says between what."""
    NOT_IN_TIME = 6
    """What was waited for has not happened yet."""
    FAILED = 69
    """It could not be done or answered: the broker, the database, the keys or a file of the
    installation. Says nothing about what was asked."""
    DEFECT = 70
    """A defect of redistill, with a traceback. Says nothing about what was asked."""
    STUCK = 75
    """A stream worker whose watchdog ended it: start it again."""
    INTERRUPTED = 130
    """Ctrl-C; a process that is asked to end by SIGTERM ends with 0, the demo with 143."""
