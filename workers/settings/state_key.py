"""State key: the file of the key that authenticates stored detectors."""

from __future__ import annotations

import secrets
from pathlib import Path

from redistill.files import PRIVATE, create
from redistill.workers.errors import SettingsError

__all__ = ["stored_key"]


def stored_key(path: Path) -> bytes:
    """Read a key file, or make it: whole and never overwritten, whoever else makes it too.

    Raises
    ------
    SettingsError
        If it cannot be read or made, or holds no key.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            create(path, secrets.token_hex(32).encode(), mode=PRIVATE)  # or somebody was faster
        return bytes.fromhex(path.read_text().strip())
    except OSError as error:
        raise SettingsError(f"the key {path} cannot be read or made: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(
            f"{path} does not hold a hexadecimal key: restore it, or remove it (stored detectors"
            " start anew)"
        ) from error
