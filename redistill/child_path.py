"""The import path of a child process of ours: redistill and its libraries, not where we stand.

A child that is given the whole ``sys.path`` of a service also finds the ``kafka.py`` or ``json.py``
that lies beside the service's own script, and loads that.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

__all__ = ["PACKAGE_PARENT", "python_path", "variables"]

PACKAGE_PARENT = str(Path(__file__).absolute().parent.parent)
"""The folder in which this process found the package ``redistill``."""


def python_path() -> str:
    """``PYTHONPATH`` for a child: our own path in its order, without current folder and script's.

    Where ``redistill`` itself lies comes last if it is none of the rest (a checkout that is not
    installed, a folder into which everything was copied): the libraries of the rest go before.

    Examples
    --------
    >>> os.getcwd() in python_path().split(os.pathsep)[:-1]
    False
    """
    near = {""}
    with contextlib.suppress(OSError):  # the current folder may have been removed
        near.add(os.getcwd())
        if sys.argv and sys.argv[0]:  # a linked script is looked up where the link leads
            near |= {os.path.dirname(f(sys.argv[0])) for f in (os.path.abspath, os.path.realpath)}
    path = [p for p in sys.path if p not in near]
    return os.pathsep.join(path if PACKAGE_PARENT in path else [*path, PACKAGE_PARENT])


def variables() -> dict[str, str]:
    """Variables that make a child import from :func:`python_path` only (Python's safe path)."""
    return {"PYTHONPATH": python_path(), "PYTHONSAFEPATH": "1"}
