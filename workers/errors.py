"""Errors of the acting side."""

from __future__ import annotations

from redistill.workers.exit_codes import ExitCode

__all__ = [
    "DatabaseError",
    "Disagreement",
    "KeysError",
    "LeaseLost",
    "NotInTime",
    "RegistryError",
    "RegistryUsageError",
    "ReleaseFilesError",
    "SettingsError",
    "SigningRefused",
    "SpecError",
    "UsageError",
    "WorkersError",
]


class WorkersError(Exception):
    """Something on the acting side could not be done."""

    retriable = False
    exit_code = ExitCode.FAILED
    """What the command line exits with."""


class UsageError(WorkersError):
    """What was asked for makes no sense as it stands: the message says what to change."""

    exit_code = ExitCode.USAGE


class SettingsError(UsageError):
    """Settings are wrong; the message names every bad key with its value."""


class SpecError(UsageError):
    """``model.toml`` is wrong; the message names every bad key with its place."""


class DatabaseError(WorkersError):
    """The database cannot be used: away, locked, not upgraded, or newer than this program."""


class LeaseLost(WorkersError):
    """Another worker has taken over: nothing more may be written under this lease."""


class NotInTime(WorkersError):
    """What was waited for has not happened yet; the message says whether it still may."""

    exit_code = ExitCode.NOT_IN_TIME


class RegistryError(WorkersError):
    """A release cannot be made, published or rolled back."""

    exit_code = ExitCode.REFUSED


class RegistryUsageError(RegistryError, UsageError):
    """What was asked of the registry makes no sense: a name that it does not know, or a model that
    has no releases because it is only watched."""

    exit_code = ExitCode.USAGE


class Disagreement(RegistryError):
    """Rows of a release are not what the audit says of it: somebody changed them in SQL."""


class SigningRefused(RegistryError):
    """What was to be signed does not agree with the audit: nothing was, and what clients have goes
    on to be served."""


class ReleaseFilesError(RegistryError):
    """A file of a release cannot be read or written."""

    exit_code = ExitCode.FAILED


class KeysError(WorkersError):
    """The signing keys are missing or cannot be read."""
