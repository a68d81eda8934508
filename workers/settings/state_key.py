"""State key: the file of the key that authenticates stored detectors."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from redistill.workers.errors import SettingsError


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
            temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(descriptor, secrets.token_hex(32).encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            try:
                os.link(temporary, path)  # fails if somebody was faster: theirs is the key
            except FileExistsError:
                pass
            finally:
                os.unlink(temporary)
        return bytes.fromhex(path.read_text().strip())
    except OSError as error:
        raise SettingsError(f"the key {path} cannot be read or made: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(
            f"{path} does not hold a hexadecimal key: restore it, or remove it (stored detectors"
            " start anew)"
        ) from error
