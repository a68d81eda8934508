"""Key files: the state key, which seals stored detectors, and the audit key."""

from __future__ import annotations

import secrets
from pathlib import Path

from redistill.files import PRIVATE, create
from redistill.modes import private_folder
from redistill.workers.errors import SettingsError

__all__ = ["FEWEST_BYTES", "stored_key"]

FEWEST_BYTES = 16
"""A shorter key can be guessed."""
MEND = (
    "restore it from a backup, or remove it and run `redistill db upgrade --new-state-key` (stored"
    " detectors start anew)"
)


def stored_key(path: Path, *, mend: str = MEND) -> bytes:
    """Read a key file, or make it: whole and never overwritten, whoever else makes it too.

    Parameters
    ----------
    mend
        What to do about one that holds no key.

    Raises
    ------
    SettingsError
        If it cannot be read or made, or holds no key.
    """
    try:
        private_folder(path.parent)
        if not path.exists():
            create(path, secrets.token_hex(32).encode(), mode=PRIVATE)  # or somebody was faster
        key = bytes.fromhex(path.read_text().strip())
    except OSError as error:
        raise SettingsError(f"the key {path} cannot be read or made: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path} does not hold a hexadecimal key: {mend}") from error
    if len(key) < FEWEST_BYTES:  # an empty file is what a full disk leaves: anybody has that key
        raise SettingsError(
            f"{path} holds a key of {len(key)} bytes, {FEWEST_BYTES} are the least: {mend}"
        )
    return key
