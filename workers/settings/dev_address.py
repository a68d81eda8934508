"""Address of the dev broker that ``redistill up`` started: its short form stays the same at each
start, the whole one tells the starts apart.

``dev://127.0.0.1:19092`` is what a service or a shell keeps; the workers need to know which start
of it they count (``dev://127.0.0.1:19092?start=UUID``), since it forgets everything when it stops.
"""

from __future__ import annotations

from pathlib import Path

from redistill.files import write
from redistill.modes import private_folder
from redistill.workers.errors import SettingsError

__all__ = ["is_short", "keep", "whole"]

FILE = "dev-broker"


def is_short(servers: str) -> bool:
    """Whether an address does not say which start of the dev broker it means.

    Examples
    --------
    >>> is_short("dev://127.0.0.1:19092"), is_short("dev://127.0.0.1:9?start=x"), is_short("k:9092")
    (True, False, False)
    """
    return servers.startswith("dev://") and "start=" not in servers


def keep(home: Path, servers: str) -> None:
    """Write down which start the dev broker of this home is at."""
    private_folder(home)
    write(home / FILE, servers.encode())


def whole(home: Path, servers: str) -> str:
    """The whole address of a short one.

    Raises
    ------
    SettingsError
        No dev broker of this home was started at that address.
    """
    try:
        known = (home / FILE).read_text(encoding="utf-8")
    except OSError:
        known = ""
    if known.partition("?")[0] != servers.rstrip("/"):
        port = servers.rpartition(":")[2]
        raise SettingsError(
            f"REDISTILL_BROKER = {servers!r}: no dev broker of the home {home} was started there:"
            f" `redistill up --broker-port {port}`"
        )
    return known
