"""Errors of the compressing side. A rejected candidate is no error: it is a decision in the
report."""

from __future__ import annotations

__all__ = ["BadData", "BadJob", "BadModel", "CompressError", "DeadlineExceeded"]


class CompressError(Exception):
    """A model could not be compressed or judged."""

    retriable = False


class BadJob(CompressError):
    """The job folder is incomplete or contradicts itself."""


class BadModel(CompressError):
    """A model cannot be used: corrupt, external data, another input shape, unknown operators, no
    output."""


class BadData(CompressError):
    """The rows cannot be used: a column is missing, one class only, too few rows, no labels."""


class DeadlineExceeded(CompressError):
    """The job's deadline passed."""
