"""Errors of the acting side."""

from __future__ import annotations

__all__ = [
    "DatabaseError",
    "KeysError",
    "LeaseLost",
    "RegistryError",
    "SettingsError",
    "SpecError",
    "UsageError",
    "WorkersError",
]


class WorkersError(Exception):
    """Something on the acting side could not be done."""

    retriable = False
    exit_code = 1
    """What the command line exits with."""


class UsageError(WorkersError):
    """What was asked for makes no sense as it stands: the message says what to change."""

    exit_code = 2


class SettingsError(UsageError):
    """Settings are wrong; the message names every bad key with its value."""


class SpecError(UsageError):
    """``model.toml`` is wrong; the message names every bad key with its place."""


class DatabaseError(WorkersError):
    """The database cannot be used: away, locked, not upgraded, or newer than this program."""


class LeaseLost(WorkersError):
    """Another worker has taken over: nothing more may be written under this lease."""


class RegistryError(WorkersError):
    """A release cannot be made, published or rolled back."""


class KeysError(WorkersError):
    """The signing keys are missing or cannot be read."""
